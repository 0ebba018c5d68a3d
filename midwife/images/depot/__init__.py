"""Where VIBs come from: offline bundles, online depots, folders, ISOs, image databases, and the depot library."""
