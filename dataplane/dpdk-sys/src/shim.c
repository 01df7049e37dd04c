#include "shim.h"

#include <stdio.h>
#include <string.h>

#include <rte_log.h>

int
shim_errno(void)
{
	return rte_errno;
}

uint32_t
shim_lcore_id(void)
{
	return rte_lcore_id();
}

void
shim_forget_lcore_id(void)
{
	RTE_PER_LCORE(_lcore_id) = LCORE_ID_ANY;
}

/* The most recent LOG_SIZE bytes of a captured log. */
#define LOG_SIZE 8192
static char log_text[LOG_SIZE];
static size_t log_length;
static FILE *log_stream;

static ssize_t
log_write(void *cookie, const char *bytes, size_t count)
{
	size_t kept = count;

	(void)cookie;
	if (rte_log_cur_msg_loglevel() <= (int)RTE_LOG_CRIT)
		fwrite(bytes, 1, count, stderr);
	if (kept > LOG_SIZE) {
		bytes += kept - LOG_SIZE;
		kept = LOG_SIZE;
	}
	if (log_length + kept > LOG_SIZE) {
		size_t dropped = log_length + kept - LOG_SIZE;

		memmove(log_text, log_text + dropped, log_length - dropped);
		log_length -= dropped;
	}
	memcpy(log_text + log_length, bytes, kept);
	log_length += kept;
	return (ssize_t)count;
}

int
shim_log_capture_begin(void)
{
	cookie_io_functions_t functions = { .write = log_write };

	log_length = 0;
	log_stream = fopencookie(NULL, "w", functions);
	if (log_stream == NULL)
		return -1;
	/* Unbuffered: log_write asks for the level of the message it is given. */
	setvbuf(log_stream, NULL, _IONBF, 0);
	return rte_openlog_stream(log_stream);
}

size_t
shim_log_capture_end(char *text, size_t size)
{
	size_t count = log_length;

	/* NULL: back to the stream that EAL opened by itself. */
	rte_openlog_stream(NULL);
	if (log_stream != NULL)
		fclose(log_stream);
	log_stream = NULL;
	if (size == 0)
		return 0;
	if (count > size - 1)
		count = size - 1;
	memcpy(text, log_text + (log_length - count), count);
	text[count] = '\0';
	return count;
}

uint16_t
shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t
shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int
shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

uint32_t
shim_ring_dequeue_burst(struct rte_ring *ring, void **objects, uint32_t count)
{
	return rte_ring_dequeue_burst(ring, objects, count, NULL);
}

uint64_t
shim_rdtsc(void)
{
	return rte_rdtsc();
}
