"""A `wetread release` command in a process of its own, to be killed: it imports first, then says that it begins."""

import sys


def main(words: list[str]) -> int:
    from wetread_release import progress_line, promotion, publishing, release_site  # noqa: F401, PLC0415
    from wetread_release.cli import app  # noqa: PLC0415

    sys.stdout.write("begins\n")
    sys.stdout.flush()
    try:
        app(args=words, prog_name="wetread release")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
