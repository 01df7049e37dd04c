//! Safe owners for DPDK: EAL, mempool, mbuf, port, queue.
