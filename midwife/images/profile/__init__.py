"""Image profiles: found, composed, validated, compared. Pure, except for the files that hold them."""
