/*
 * rte_hash, bulk lookup of 32 keys of 40 bytes: millions of lookups a second.
 *
 * lookup ENTRIES SECONDS NAME [EAL ARGUMENT ...]
 *
 * The keys are those of `ringfence-perf lookup`: UDP over IPv4 from 2^16 clients, the client's port telling the rest.
 * Keys looked up are picked at random among those present and lie in one array in the order of their use. Pages are as
 * the arguments for libdpdk choose. Prints one line: lookups a second (median of the pieces timed), hits,
 * lookups, keys present.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>

#define BURST 32
#define KEYS (1u << 22)
/* Keys timed together, as on our side. */
#define PIECE (64 * BURST)
#define PIECES_MAX (1u << 20)

struct flow_key {
	uint8_t a[16];
	uint8_t b[16];
	uint8_t proto;
	uint8_t zero;
	uint16_t context;
	uint16_t port_a;
	uint16_t port_b;
};

_Static_assert(sizeof(struct flow_key) == 40, "as long as our key");

/* splitmix64 */
static uint64_t mix(uint64_t n)
{
	uint64_t z = (n + 1) * 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static struct flow_key key_of(uint32_t flow)
{
	struct flow_key key = { .proto = 17, .port_a = 32768 + (flow >> 16), .port_b = 443 };
	uint32_t client = rte_cpu_to_be_32(0x0a000000 + (flow & 0xffff));
	uint32_t server = rte_cpu_to_be_32(0x0af00001);

	memset(key.a + 10, 0xff, 2);
	memset(key.b + 10, 0xff, 2);
	memcpy(key.a + 12, &client, 4);
	memcpy(key.b + 12, &server, 4);
	return key;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: lookup ENTRIES SECONDS NAME [EAL ARGUMENT ...]\n");
		return 2;
	}
	uint32_t entries = strtoul(argv[1], NULL, 10);
	double seconds = strtod(argv[2], NULL);

	if (rte_eal_init(argc - 3, argv + 3) < 0) {
		fprintf(stderr, "rte_eal_init: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	struct rte_hash_parameters parameters = {
		.name = "flows",
		.entries = entries,
		.key_len = sizeof(struct flow_key),
		.hash_func = rte_hash_crc,
		.hash_func_init_val = 7,
	};
	struct rte_hash *table = rte_hash_create(&parameters);
	if (table == NULL) {
		fprintf(stderr, "rte_hash_create: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	/* A cuckoo table may refuse some of its last keys; those are not looked up. */
	uint32_t present = 0;
	for (uint32_t flow = 0; flow < entries; flow++) {
		struct flow_key key = key_of(flow);
		if (rte_hash_add_key(table, &key) < 0)
			break;
		present++;
	}
	struct flow_key *keys = malloc(KEYS * sizeof(*keys));
	const void *burst[BURST];
	int32_t places[BURST];
	for (uint32_t i = 0; i < KEYS; i++)
		keys[i] = key_of(mix(i) % present);

	static double pieces[PIECES_MAX];
	uint64_t hits = 0;
	size_t count = 0;
	double began = now();
	while (now() - began < seconds) {
		for (uint32_t i = 0; i < KEYS && count < PIECES_MAX; i += PIECE) {
			double start = now();
			for (uint32_t j = i; j < i + PIECE; j += BURST) {
				for (uint32_t k = 0; k < BURST; k++)
					burst[k] = &keys[j + k];
				rte_hash_lookup_bulk(table, burst, BURST, places);
				for (uint32_t k = 0; k < BURST; k++)
					hits += places[k] >= 0;
			}
			pieces[count++] = PIECE / (now() - start);
		}
	}
	qsort(pieces, count, sizeof(*pieces), compare);
	printf("%.0f %" PRIu64 " %" PRIu64 " %u\n", pieces[(count - 1) / 2], hits, (uint64_t)count * PIECE, present);
	return 0;
}
