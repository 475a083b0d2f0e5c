"""What the healer did, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Heal:
    """One attempt to bring a model back."""

    model: str
    cause: str
    seconds: float
    """From the notice of the death to the loaded model."""
    error: str = ""
    """Why it failed; empty where it did not."""

    def __str__(self) -> str:
        if self.error:
            return f"could not heal {self.model} ({self.cause}) in {self.seconds:.2f} s: {self.error}"
        return f"healed {self.model} ({self.cause}) in {self.seconds:.2f} s"
