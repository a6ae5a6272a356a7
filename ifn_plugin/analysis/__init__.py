"""Analysis of data sets, runs and models: what ``benchmark``, ``compare``, ``report`` and ``check_dataset`` do."""
