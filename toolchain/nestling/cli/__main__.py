"""`python -m nestling.cli`, which is also what `torchrun -m nestling.cli train ...` starts."""

from nestling.cli import main

if __name__ == "__main__":
    main(prog_name="nestling")
