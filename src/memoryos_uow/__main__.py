"""``python -m memoryos_uow``: the command line where no script is on the path."""

from memoryos_uow.cli import main

if __name__ == "__main__":
    main()
