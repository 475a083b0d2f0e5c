"""The load generator's process of the capacity bench: films read in one of several pipelines, as a reader does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wetread_client import Client, Retry

from wetread_bench.load import LoadGenerator, serve

if TYPE_CHECKING:
    from collections.abc import Callable


class PipelineGenerator(LoadGenerator):
    """Reads films in a pipeline by name, over shared memory; every request copies its film's bytes anew."""

    def aim_at(self, url: str, pipeline: str) -> str:
        """Choose the server and the pipeline."""
        self.release()
        client = Client(url, pipeline, transport="shm", retry=Retry(times=0))  # a failure must count
        self._close: Callable[[], None] | None = client.close
        self._read = lambda film: client.read(film, declared_film=True, any_body_part=True).findings[0].probability
        return pipeline


def main() -> None:
    """Be a worker."""
    generator = PipelineGenerator()
    serve(generator, aim_at=generator.aim_at)


if __name__ == "__main__":
    main()
