# make help lists the targets.
PYTHON ?= python3
