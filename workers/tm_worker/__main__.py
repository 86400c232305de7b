"""`python -m tm_worker`, the same as `tm-worker`."""

from tm_worker.cli import main

if __name__ == "__main__":
    main()
