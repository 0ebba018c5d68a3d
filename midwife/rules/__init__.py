"""Auto Deploy's rules: patterns matched against facts, first match per item type wins."""
