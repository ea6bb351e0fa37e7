"""From sources to window and minutes: a bounded queue and five workers for each source, one collector for all."""
