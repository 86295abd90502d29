"""Makes a region active exactly while its database is primary, and wakes every open run after a failover."""
