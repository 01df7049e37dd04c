/* A source of frames for flow counts that no mbuf pool can hold, the same for every DPDK program.
 *
 * Loaded before a program (LD_PRELOAD, or `-d` of EAL), it waits until the named net_null ports have receive queues and
 * hangs a receive callback on each: net_null hands out mbufs of its pool without a frame in them, the callback writes one
 * into each. The cost is the same for every program that polls the port. Only the public API of DPDK is used.
 *
 * RINGFENCE_GENERATOR says what is written, as `key=value,...`:
 *   ports=A+B      names of the net_null ports                  flows=N        established flows of each port (1000)
 *   both=1         frames of both directions                    new=P          every hundred frames, P of a new flow
 *   scan=N         frames a second of a scan, by the TSC        scan_total=N   end the scan after that many (0: never)
 *   family=4|6     IPv4 or IPv6                                 vxlan=1        everything inside one VXLAN tunnel
 *   imix=1         7:4:1 of 64, 594, 1518 bytes; else 64        seed=N         where in the order it begins
 *   total=N        nothing more after that many frames (0)      counts=FILE    64 bytes of counters a queue go there
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define SOURCES_MAX 16u
#define CLIENTS 0x100000u      /* 10.0.0.0/12, fd00::a00:0/108 */
#define CLIENT_BASE 0x0a000000u
#define SERVER_BASE 0x0af00000u
#define SCANNER 0x0a0ffffeu
#define SCANNED_BASE 0x0ae00000u
#define PORT_ESTABLISHED 5000u
#define PORT_NEW 5001u
#define HEAD_BYTES 128u
#define VXLAN_BYTES 50u
#define SCAN_BACKLOG_MAX 4096u
#define SCAN_OF_FOUR 3u        /* of four frames of a burst, at most: a wire does not starve the others */

/* What has been written: 64 bytes, read by the harness while the source runs. It sets `scan_stop` to end the scan. */
struct counts {
	uint64_t forward, reply, fresh, scan, scan_missed, scan_stop, unused[2];
};

/* A frame but for its addresses, ports and checksum. */
struct mould {
	uint8_t head[HEAD_BYTES];
	uint32_t sum; /* of what does not change under the checksum */
	uint16_t frame_bytes;
};

struct source {
	struct counts *counts;
	struct mould moulds[3];
	uint64_t flows, step, base, forward, reply, lag, fresh, fresh_step, scan_begin, scan_owed;
	uint64_t turn;
	uint32_t new_percent, new_due, copy_bytes, ip_at;
	double scan_per_tick;
	uint64_t scan_total, total;
	bool both, ipv6, imix;
} __rte_cache_aligned;

struct settings {
	char ports[256], counts[256];
	uint64_t flows, new_percent, scan, scan_total, total, seed, family;
	bool both, vxlan, imix;
};

static struct settings settings;
static struct source sources[SOURCES_MAX];
static struct counts own_counts[SOURCES_MAX];
static const uint8_t imix_order[12] = {0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 2};

static inline uint32_t
words(uint32_t value)
{
	return (value & 0xffff) + (value >> 16);
}

static inline uint16_t
folded(uint32_t sum)
{
	sum = words(sum);
	sum = words(sum);
	return (uint16_t)~sum;
}

/* Addresses and ports as numbers of this machine; IPv4 has its header's checksum, IPv6 that of UDP. */
static __rte_always_inline void
write_frame(struct source *s, struct rte_mbuf *m, uint32_t src, uint32_t dst, uint32_t ports)
{
	const struct mould *mould = &s->moulds[s->imix ? imix_order[s->turn % 12] : 0];
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
	uint8_t *ip = frame + s->ip_at;

	memcpy(frame, mould->head, 64);
	if (s->copy_bytes > 64)
		memcpy(frame + 64, mould->head + 64, 64);
	src = rte_cpu_to_be_32(src);
	dst = rte_cpu_to_be_32(dst);
	ports = rte_cpu_to_be_32(ports);
	uint32_t sum = mould->sum + words(src) + words(dst);
	if (s->ipv6) {
		uint16_t checksum = folded(sum + words(ports));
		checksum = checksum == 0 ? 0xffff : checksum;
		memcpy(ip + 20, &src, 4);
		memcpy(ip + 36, &dst, 4);
		memcpy(ip + 40, &ports, 4);
		memcpy(ip + 46, &checksum, 2);
	} else {
		uint16_t checksum = folded(sum);
		memcpy(ip + 10, &checksum, 2);
		memcpy(ip + 12, &src, 4);
		memcpy(ip + 16, &dst, 4);
		memcpy(ip + 20, &ports, 4);
	}
	m->data_len = mould->frame_bytes;
	m->pkt_len = mould->frame_bytes;
}

/* The next of a permutation of the flows that no cache likes: a step prime to their number. */
static __rte_always_inline uint64_t
next_flow(const struct source *s, uint64_t *at)
{
	uint64_t flow = *at;
	uint64_t next = flow + s->step;
	*at = next >= s->flows ? next - s->flows : next;
	return s->base + flow;
}

/* The first frame of a flow goes before its first reply, and never beside it. */
static __rte_always_inline void
write_established(struct source *s, struct rte_mbuf *m)
{
	bool is_reply = s->both && (s->turn & 1) && s->lag == 0;
	uint64_t flow = next_flow(s, is_reply ? &s->reply : &s->forward);
	uint32_t client = CLIENT_BASE | (flow & (CLIENTS - 1)), server = SERVER_BASE | ((flow >> 3) & 15);
	uint32_t port = 40000 + (uint32_t)(flow >> 20);

	if (is_reply) {
		s->counts->reply++;
		write_frame(s, m, server, client, PORT_ESTABLISHED << 16 | port);
	} else {
		s->lag -= s->lag != 0;
		s->counts->forward++;
		write_frame(s, m, client, server, port << 16 | PORT_ESTABLISHED);
	}
}

/* A flow that was never there before. */
static __rte_always_inline void
write_fresh(struct source *s, struct rte_mbuf *m)
{
	uint64_t number = s->fresh;
	uint32_t client = CLIENT_BASE | ((uint32_t)number * 0x9e3779b1u & (CLIENTS - 1));
	uint32_t port = 32768 + (uint32_t)((number >> 20) % 32000);

	s->fresh += s->fresh_step;
	s->counts->fresh++;
	write_frame(s, m, client, SERVER_BASE | (number & 15), port << 16 | PORT_NEW);
}

/* One source, every destination of 10.224.0.0/12 in turn, another port every time round. */
static __rte_always_inline void
write_scan(struct source *s, struct rte_mbuf *m)
{
	uint64_t number = s->counts->scan++;
	uint32_t target = SCANNED_BASE | (uint32_t)(number & 0xfffff);

	write_frame(s, m, SCANNER, target, 40000u << 16 | (1 + (uint32_t)(number >> 20) % 1023));
}

/* Frames of the scan that are owed by now. It begins when every flow has been there, and answered. What a core cannot
 * fetch in time is missed, as on a wire. */
static uint64_t
scan_due(struct source *s)
{
	if (s->turn < 3 * s->flows || __atomic_load_n(&s->counts->scan_stop, __ATOMIC_RELAXED) != 0)
		return 0;
	if (s->scan_begin == 0)
		s->scan_begin = rte_rdtsc();
	uint64_t offered = (uint64_t)((double)(rte_rdtsc() - s->scan_begin) * s->scan_per_tick);
	uint64_t due = offered - s->counts->scan - s->counts->scan_missed;
	if (due > SCAN_BACKLOG_MAX) {
		s->counts->scan_missed += due - SCAN_BACKLOG_MAX;
		due = SCAN_BACKLOG_MAX;
	}
	if (s->scan_total != 0 && s->counts->scan + due > s->scan_total)
		due = s->scan_total - s->counts->scan;
	return due;
}

static uint16_t
write_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count, uint16_t max, void *source)
{
	struct source *s = source;
	uint64_t scan = s->scan_per_tick > 0 ? scan_due(s) : 0;

	(void)port, (void)queue, (void)max;
	if (s->total != 0 && s->turn + count > s->total) {
		uint16_t left = (uint16_t)(s->total - s->turn);
		rte_pktmbuf_free_bulk(mbufs + left, count - left);
		count = left;
	}
	scan = RTE_MIN(scan, (uint64_t)count * SCAN_OF_FOUR / 4);
	for (uint16_t i = 0; i < count; i++) {
		if (i + 4 < count)
			rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + 4], void *));
		s->new_due += s->new_percent;
		if (scan > 0) {
			scan--;
			write_scan(s, mbufs[i]);
		} else if (s->new_due >= 100) {
			write_fresh(s, mbufs[i]);
		} else {
			write_established(s, mbufs[i]);
		}
		s->new_due -= s->new_due >= 100 ? 100 : 0;
		s->turn++;
	}
	return count;
}

static uint32_t
sum_of(const uint8_t *bytes, size_t count)
{
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < count; i += 2) {
		uint16_t word;
		memcpy(&word, bytes + i, 2);
		sum += word;
	}
	return sum;
}

static void
put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* An IPv4 header of UDP without addresses. */
static void
put_ipv4(uint8_t *ip, uint32_t ip_bytes)
{
	ip[0] = 0x45;
	put16(ip + 2, ip_bytes);
	put16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = 17;
	put16(ip + 24, ip_bytes - 20);
}

static void
put_ethernet(uint8_t *frame, uint32_t ether_type)
{
	static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
	memcpy(frame, addresses, sizeof(addresses));
	put16(frame + 12, ether_type);
}

/* `inner_bytes` is the frame without its FCS and without a tunnel. */
static void
make_mould(struct mould *mould, uint32_t inner_bytes, bool ipv6, bool vxlan)
{
	uint32_t tunnel_bytes = vxlan ? VXLAN_BYTES : 0, ip_bytes;
	uint8_t *inner = mould->head + tunnel_bytes, *ip = inner + 14;

	memset(mould, 0, sizeof(*mould));
	/* The smallest UDP over IPv6 is 62 bytes long. */
	inner_bytes = ipv6 && inner_bytes < 62 ? 62 : inner_bytes;
	ip_bytes = inner_bytes - 14;
	mould->frame_bytes = (uint16_t)(inner_bytes + tunnel_bytes);
	put_ethernet(inner, ipv6 ? 0x86dd : 0x0800);
	if (ipv6) {
		ip[0] = 0x60;
		put16(ip + 4, ip_bytes - 40);
		ip[6] = 17;
		ip[7] = 64;
		ip[8] = ip[24] = 0xfd;
		put16(ip + 44, ip_bytes - 40);
		/* Pseudo header (RFC 8200 section 8.1) and UDP header; the payload is zero. */
		mould->sum = sum_of(ip + 8, 40) + sum_of(ip + 44, 2) + rte_cpu_to_be_16(17);
	} else {
		put_ipv4(ip, ip_bytes);
		mould->sum = sum_of(ip, 20);
	}
	if (!vxlan)
		return;
	uint8_t *outer = mould->head + 14;
	uint16_t checksum;
	put_ethernet(mould->head, 0x0800);
	put_ipv4(outer, inner_bytes + VXLAN_BYTES - 14);
	memcpy(outer + 12, (const uint8_t[8]){192, 0, 2, 1, 192, 0, 2, 2}, 8);
	checksum = folded(sum_of(outer, 20));
	memcpy(outer + 10, &checksum, 2);
	put16(outer + 20, 50000);
	put16(outer + 22, 4789);
	outer[28] = 8;    /* a VNI is there (RFC 7348) */
	outer[34] = 100;  /* VNI 100 */
}

static uint64_t
greatest_common_divisor(uint64_t a, uint64_t b)
{
	return b == 0 ? a : greatest_common_divisor(b, a % b);
}

static void
prepare(struct source *s, uint32_t ordinal, struct counts *counts)
{
	static const uint32_t frame_bytes[3] = {60, 590, 1514};

	s->counts = counts;
	s->flows = settings.flows;
	s->base = settings.flows * ordinal;
	s->step = s->flows * 618 / 1000 + 1;
	while (greatest_common_divisor(s->step, s->flows) != 1)
		s->step++;
	s->forward = s->reply = settings.seed % s->flows;
	s->lag = s->flows / 2 + 1;
	s->fresh = ordinal;
	s->fresh_step = SOURCES_MAX;
	s->new_percent = (uint32_t)settings.new_percent;
	s->both = settings.both;
	s->ipv6 = settings.family == 6;
	s->imix = settings.imix;
	s->ip_at = 14 + (settings.vxlan ? VXLAN_BYTES : 0);
	s->copy_bytes = settings.vxlan ? HEAD_BYTES : 64;
	s->scan_total = settings.scan_total;
	s->total = settings.total;
	s->scan_per_tick = (double)settings.scan / (double)rte_get_tsc_hz();
	for (int i = 0; i < 3; i++)
		make_mould(&s->moulds[i], frame_bytes[i], s->ipv6, settings.vxlan);
}

/* Waits for a port and hangs the callback on its receive queues; returns the sources in use. */
static uint32_t
attach(const char *name, uint32_t ordinal, struct counts *counts)
{
	struct rte_eth_dev_info facts;
	uint16_t port;

	for (;;) {
		if (rte_eth_dev_get_port_by_name(name, &port) == 0 && rte_eth_dev_info_get(port, &facts) == 0 &&
		    facts.nb_rx_queues > 0)
			break;
		usleep(100);
	}
	for (uint16_t queue = 0; queue < facts.nb_rx_queues && ordinal < SOURCES_MAX; queue++, ordinal++) {
		prepare(&sources[ordinal], ordinal, &counts[ordinal]);
		if (rte_eth_add_rx_callback(port, queue, write_burst, &sources[ordinal]) == NULL)
			fprintf(stderr, "generator: %s queue %u takes no callback\n", name, queue);
	}
	return ordinal;
}

static void *
attach_all(void *unused)
{
	struct counts *counts = own_counts;
	uint32_t ordinal = 0;
	char *rest = settings.ports;
	int file = settings.counts[0] != 0 ? open(settings.counts, O_RDWR) : -1;

	(void)unused;
	if (file >= 0) {
		void *shared = mmap(NULL, sizeof(own_counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		counts = shared == MAP_FAILED ? own_counts : shared;
		close(file);
	}
	for (char *name; (name = strsep(&rest, "+")) != NULL;)
		ordinal = attach(name, ordinal, counts);
	return NULL;
}

static bool
read_settings(char *text)
{
	settings.flows = 1000;
	settings.family = 4;
	for (char *word; (word = strsep(&text, ",")) != NULL;) {
		char *value = strchr(word, '=');
		if (value == NULL)
			return false;
		*value++ = 0;
		uint64_t number = strtoull(value, NULL, 10);
		if (strcmp(word, "ports") == 0)
			snprintf(settings.ports, sizeof(settings.ports), "%s", value);
		else if (strcmp(word, "counts") == 0)
			snprintf(settings.counts, sizeof(settings.counts), "%s", value);
		else if (strcmp(word, "flows") == 0 && number > 0)
			settings.flows = number;
		else if (strcmp(word, "new") == 0 && number <= 100)
			settings.new_percent = number;
		else if (strcmp(word, "scan") == 0)
			settings.scan = number;
		else if (strcmp(word, "scan_total") == 0)
			settings.scan_total = number;
		else if (strcmp(word, "total") == 0)
			settings.total = number;
		else if (strcmp(word, "seed") == 0)
			settings.seed = number;
		else if (strcmp(word, "family") == 0 && (number == 4 || number == 6))
			settings.family = number;
		else if (strcmp(word, "both") == 0)
			settings.both = number != 0;
		else if (strcmp(word, "vxlan") == 0)
			settings.vxlan = number != 0;
		else if (strcmp(word, "imix") == 0)
			settings.imix = number != 0;
		else
			return false;
	}
	return settings.ports[0] != 0;
}

/* The ports do not exist yet when this is loaded: a thread waits for them and ends. */
__attribute__((constructor)) static void
begin(void)
{
	const char *text = getenv("RINGFENCE_GENERATOR");
	char *copy = text != NULL ? strdup(text) : NULL;
	pthread_t thread;

	if (copy == NULL || !read_settings(copy)) {
		fprintf(stderr, "generator: RINGFENCE_GENERATOR is missing or not understood: %s\n", text ? text : "");
		return;
	}
	if (pthread_create(&thread, NULL, attach_all, NULL) == 0)
		pthread_detach(thread);
	free(copy);
}
