"""New processes in a fraction of a second: forks of a server that has imported the libraries once, and done nothing.

They share no state with the tests, as spawned ones do not. What depends on environment variables is none for them: the
server has its own from when it was started.
"""

import multiprocessing

NEW = multiprocessing.get_context("forkserver")
NEW.set_forkserver_preload(["torch", "hypothesis", "pytest", "llmdiff.precompute.store", "llmdiff.training.trainer"])
