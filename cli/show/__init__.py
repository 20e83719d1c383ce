"""What commands show: jobs, sweeps, comparisons and progress as text."""
