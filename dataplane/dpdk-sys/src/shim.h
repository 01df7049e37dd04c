/* What Rust cannot reach in libdpdk's headers: inline functions, macros, thread-locals, FILE. */
#ifndef RINGFENCE_SHIM_H
#define RINGFENCE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* Macros of 64 bits (RTE_BIT64 and casts) as constants with a type. */
enum {
	SHIM_RING_SP_ENQ = RING_F_SP_ENQ,
	SHIM_RING_SC_DEQ = RING_F_SC_DEQ,
};
static const uint16_t SHIM_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint64_t SHIM_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_RX_OFFLOAD_TIMESTAMP = RTE_ETH_RX_OFFLOAD_TIMESTAMP;
static const uint64_t SHIM_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t SHIM_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SHIM_RSS_ADDRESSES_AND_PORTS =
	RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
static const uint64_t SHIM_MBUF_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint32_t SHIM_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t SHIM_LINK_UP = RTE_ETH_LINK_UP;

/* rte_errno is a macro over a thread-local. */
int shim_errno(void);

/* The lcore id of the calling thread, UINT32_MAX for a thread that DPDK does not know. */
uint32_t shim_lcore_id(void);

/* Makes the calling thread one that DPDK does not know, so that it uses no mempool cache. */
void shim_forget_lcore_id(void);

/*
 * Between begin and end DPDK's log goes to memory. end copies at most size - 1 bytes of it, the
 * end of the text when it does not fit, and returns how many. Critical lines (rte_panic) go to
 * stderr as well, because the process may not live to see the end. Not thread safe.
 */
int shim_log_capture_begin(void);
size_t shim_log_capture_end(char *text, size_t size);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* 0, or a negative errno and nothing allocated. */
int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t count);

/* Takes at most count pointers from the ring, returns how many. */
uint32_t shim_ring_dequeue_burst(struct rte_ring *ring, void **objects, uint32_t count);

uint64_t shim_rdtsc(void);

#endif
