"""Whatever is opened as a depot: bundles, folders, VIBs, ISOs, image databases, addresses."""
