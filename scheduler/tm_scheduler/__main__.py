"""`python -m tm_scheduler` is `tm-scheduler`."""

from tm_scheduler.cli import main

if __name__ == "__main__":
    main(prog_name="tm-scheduler")
