"""`wetread release keygen`."""

from enum import StrEnum
from typing import Annotated

import typer

from wetread_release.command_options import KeysFolder, StateDir, say, told


class KeyAlgorithm(StrEnum):
    """What signs."""

    ED25519 = "ed25519"
    ML_DSA_65 = "ml-dsa-65"


def keygen(
    algorithm: Annotated[
        KeyAlgorithm, typer.Option(help="ml-dsa-65 withstands quantum computers; every server must know it.")
    ] = KeyAlgorithm.ED25519,
    state_dir: StateDir = None,
    keys: KeysFolder = None,
) -> None:
    """Make the key that signs releases; publish makes an Ed25519 key by itself where there is none.

    An existing key stays. Servers on other machines need the public key in their own `trusted` folder.
    """
    with told("keygen"):
        from wetread_release import signing  # noqa: PLC0415 - --help does without
        from wetread_release.release_site import default_state, find_checkout  # noqa: PLC0415

        folder = keys or (state_dir or default_state(find_checkout())) / "keys"
        there = (folder / signing.SIGNING_KEY).exists()
        signing.ensure_key(folder, algorithm.value)
        info = signing.key_info(folder)
        say(f"{folder / signing.SIGNING_KEY}: {'there already' if there else 'made'}, {info.algorithm}")
        say(f"servers need {signing.trusted_folder(folder) / f'{info.id}.pem'} in their trusted folder")
        typer.echo(info.id)
