"""`python -m notifier` is the `notifier` command."""

from notifier.cli import main

if __name__ == "__main__":
    main()
