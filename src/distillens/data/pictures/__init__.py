"""Images from where people keep them: class folders, IDX files, arrays, what comes along. `load.py` makes a `Dataset` of them."""
