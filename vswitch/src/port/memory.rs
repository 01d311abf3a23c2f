//! Two queues in memory: the same switch without a kernel.
