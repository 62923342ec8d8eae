"""What people ask for in one call: distil, audit, explain, export, compare. The command line and scripts share these."""
