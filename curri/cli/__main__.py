"""``python -m curri.cli``."""

from __future__ import annotations

from curri.cli.app import main

if __name__ == "__main__":
    main()
