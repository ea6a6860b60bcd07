"""What several kinds of tests share: fakes, loaders, clients."""
