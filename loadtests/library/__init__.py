"""What durability costs: the library beside other ones, in one run, on the same database and machine."""
