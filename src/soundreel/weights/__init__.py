"""Model weights: known files, finding and verifying them, key tables, and loading straight to a device."""
