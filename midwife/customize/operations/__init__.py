"""One file per kind of step: check (is it done?), apply (do it), verify (did it work?)."""
