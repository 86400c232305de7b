"""The pages of docs/reference, made from the code they are about: `python -m docs.generate`, or `make docs`."""
