"""After a crash, here or on another machine: what is known of each job, and what to do."""
