"""What an agent remembers of its own server: which release served each pipeline, and which were good here."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from wetread_release.agent.served import read_text, write_text

_KEPT = 20


@dataclass(frozen=True)
class PipelineRecord:
    """One pipeline's releases on this server."""

    good: tuple[int, ...] = ()
    """Releases that were served here and gave the right golden answers, the latest last."""
    code: str = ""
    """Digest of the backends' code that the good ones were tried with."""

    def with_good(self, release: int) -> "PipelineRecord":
        """Add a good release."""
        good = (*(n for n in self.good if n != release), release)[-_KEPT:]
        return replace(self, good=good)


@dataclass
class Record:
    """agent.json: a cache of experience. Losing it costs a check, never a release."""

    path: Path
    pipelines: dict[str, PipelineRecord] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read the record; one that cannot be read is begun anew."""
        try:
            content = json.loads(read_text(path) or "{}")
            pipelines = {name: PipelineRecord(tuple(each["good"]), str(each["code"])) for name, each in content.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            pipelines = {}
        return cls(path, pipelines)

    def of(self, pipeline: str) -> PipelineRecord:
        """Give a pipeline's record."""
        return self.pipelines.get(pipeline, PipelineRecord())

    def put(self, pipeline: str, record: PipelineRecord) -> None:
        """Change a pipeline's record, durably."""
        if self.pipelines.get(pipeline) != record:
            self.pipelines[pipeline] = record
            write_text(self.path, json.dumps({name: asdict(each) for name, each in self.pipelines.items()}) + "\n")
