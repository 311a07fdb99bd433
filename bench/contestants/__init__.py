"""One file a peer, all with the same small interface (base.py); serve.py runs one of them in its own process."""
