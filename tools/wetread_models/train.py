"""Fine-tune the network on a folder of films: seeded, averaged weights, a checkpoint after every epoch."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from wetread_models.augment import augment
from wetread_models.data import NORMAL, PNEUMONIA, DataError, FilmFile, as_image, read_pictures
from wetread_models.network import FilmClassifier, new_classifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TrainingOptions:
    """The recipe; the defaults made the committed model."""

    seed: int = 0
    epochs: int = 8
    batch: int = 32
    rate: float = 4e-4
    """Peak of the one-cycle schedule; the head learns three times as fast."""
    weight_decay: float = 0.03
    label_smoothing: float = 0.05
    average: float = 0.995
    """Decay of the running average of the weights, per step."""
    threads: int = 2


@dataclass(frozen=True)
class Step:
    """Progress after one step."""

    done: int
    total: int
    loss: float
    seconds_left: float


def balanced_order(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """As many indices as films, half of each class: the larger class is sampled, the smaller repeated."""
    half = len(labels) // 2
    drawn = []
    for label in (NORMAL, PNEUMONIA):
        members = np.flatnonzero(labels == label)
        rounds = -(-half // len(members))
        drawn.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:half])
    return rng.permutation(np.concatenate(drawn))


def batches(
    pictures: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], options: TrainingOptions, epoch: int
) -> Iterator[Batch]:
    """One epoch of augmented batches; each depends on seed, epoch and its number alone."""
    order = balanced_order(labels, np.random.default_rng((options.seed, epoch)))
    for number, start in enumerate(range(0, len(order) - options.batch + 1, options.batch)):
        chosen = order[start : start + options.batch]
        rng = np.random.default_rng((options.seed, epoch, number))
        others = rng.integers(len(pictures), size=len(chosen))
        films = np.stack([augment(pictures[i], pictures[j], rng) for i, j in zip(chosen, others, strict=True)])
        target = torch.from_numpy(labels[chosen].astype(np.float32))[:, None]
        yield torch.from_numpy(as_image(films)), target


def ahead(source: Iterator[Batch], depth: int = 4) -> Iterator[Batch]:
    """The same batches, made by a thread while the last one trains (OpenCV works without the interpreter's lock)."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)

    def fill() -> None:
        try:
            for batch in source:
                ready.put(batch)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 -- raised again in the consumer's thread
            ready.put(error)

    threading.Thread(target=fill, name="augment", daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


class Trainer:
    """The state of one training run."""

    def __init__(self, films: Sequence[FilmFile], options: TrainingOptions, work: Path) -> None:
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        self.options, self.work = options, work
        self.pictures = read_pictures(films)
        self.labels = np.array([film.label for film in films], dtype=np.int64)
        self.network = new_classifier().to(memory_format=torch.channels_last)
        self.averaged = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.steps = max(1, len(self.labels) // 2 * 2 // options.batch)
        head = list(self.network.head.parameters())
        rest = [p for p in self.network.trainable() if all(p is not h for h in head)]
        # A penalty on batch norm's scales or on biases would change what the layers say, not how simply they say it.
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
            {"params": head, "weight_decay": options.weight_decay},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.rate)
        rates = [options.rate, options.rate, 3 * options.rate]
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rates, total_steps=self.steps * options.epochs, pct_start=0.2
        )
        self.epoch, self.seconds = 0, 0.0

    def resume(self) -> bool:
        """Go on from the last checkpoint of the work folder, if there is one; DataError when its recipe was another."""
        path = self.work / "last.pt"
        if not path.exists():
            return False
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["options"] != asdict(self.options):
            raise DataError(f"{path} was made with {state['options']}: resume with the same options, or train anew")
        self.network.load_state_dict(state["network"])
        self.averaged = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        return True

    def run(self, on_step: Callable[[Step], None], on_epoch: Callable[[int, Path], None]) -> Path:
        """Train the epochs that are left; return the checkpoint with the averaged weights."""
        start, done, before = time.monotonic(), 0, self.seconds
        total = self.steps * self.options.epochs
        first = self.epoch * self.steps
        while self.epoch < self.options.epochs:
            self.network.train()
            for image, target in ahead(batches(self.pictures, self.labels, self.options, self.epoch)):
                loss = self._step(image, target)
                done += 1
                left = (time.monotonic() - start) / done * (total - first - done)
                on_step(Step(first + done, total, loss, left))
            self.epoch += 1
            self.seconds = before + time.monotonic() - start
            on_epoch(self.epoch, self._save())
        return self.work / "last.pt"

    def _step(self, image: torch.Tensor, target: torch.Tensor) -> float:
        options = self.options
        logits = self.network.training_logits(image.to(memory_format=torch.channels_last))
        smooth = target * (1 - options.label_smoothing) + options.label_smoothing / 2
        loss = functional.binary_cross_entropy_with_logits(logits, smooth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        # Short runs and first steps: the average must not remember the untrained head.
        steps = self.schedule.last_epoch
        decay = min(options.average, (1 + steps) / (10 + steps))
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                if tensor.is_floating_point():
                    self.averaged[name].lerp_(tensor, 1 - decay)
        return float(loss.detach())

    def _save(self) -> Path:
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / f"epoch-{self.epoch}.pt"
        torch.save({"ema": self.averaged, "epoch": self.epoch, "options": asdict(self.options)}, path)
        whole = {
            "ema": self.averaged,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),  # of dropout; augmentation is seeded by epoch and step
            "epoch": self.epoch,
            "seconds": self.seconds,
            "options": asdict(self.options),
        }
        partial = self.work / ".last.pt"
        torch.save(whole, partial)
        partial.replace(self.work / "last.pt")
        return path


def predict(network: FilmClassifier, pictures: npt.NDArray[np.uint8], batch: int = 32) -> npt.NDArray[np.float32]:
    """LOGITS [n] of films uint8 [n,224,224]."""
    network.eval()
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(as_image(pictures[i : i + batch])))[0] for i in range(0, len(pictures), batch)
        ]
    return np.asarray(torch.cat(parts)[:, 0].numpy(), dtype=np.float32)
