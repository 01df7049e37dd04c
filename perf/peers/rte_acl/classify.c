/*
 * rte_acl, classification in bursts of 32: keys a second.
 *
 * classify RULES KEYS SECONDS NAME [EAL ARGUMENT ...]
 *
 * RULES has a line for each rule: source address, prefix length, destination address, prefix length, protocol, port.
 * KEYS has records of 16 bytes, all in network order: protocol and three bytes of zero, source and destination address,
 * source and destination port. A key is permitted where any rule matches. Prints one line: keys a second (median of
 * the pieces timed), keys permitted of one pass, keys of a pass, microseconds to build.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_errno.h>

#define BURST 32
#define RULES_MAX (1u << 20)
/* Keys timed together, as on our side. */
#define PIECE (64 * BURST)
#define PIECES_MAX (1u << 20)

struct key {
	uint8_t proto;
	uint8_t zero[3];
	uint32_t src;
	uint32_t dst;
	uint16_t sport;
	uint16_t dport;
};

_Static_assert(sizeof(struct key) == 16, "as the file has it");

enum { PROTO, SRC, DST, SPORT, DPORT, FIELDS };

RTE_ACL_RULE_DEF(rule, FIELDS);

static const struct rte_acl_field_def fields[FIELDS] = {
	{ RTE_ACL_FIELD_TYPE_BITMASK, 1, PROTO, 0, offsetof(struct key, proto) },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, SRC, 1, offsetof(struct key, src) },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, DST, 2, offsetof(struct key, dst) },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, SPORT, 3, offsetof(struct key, sport) },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, DPORT, 3, offsetof(struct key, dport) },
};

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

static int add_rules(struct rte_acl_ctx *acl, const char *path)
{
	FILE *file = fopen(path, "r");
	char src[64], dst[64];
	unsigned src_bits, dst_bits, proto, port;
	int count = 0;

	if (file == NULL)
		return -1;
	while (fscanf(file, "%63s %u %63s %u %u %u", src, &src_bits, dst, &dst_bits, &proto, &port) == 6) {
		struct in_addr from, to;
		struct rule rule = { .data = { .category_mask = 1, .priority = 1, .userdata = ++count } };

		if (inet_pton(AF_INET, src, &from) != 1 || inet_pton(AF_INET, dst, &to) != 1)
			break;
		rule.field[PROTO].value.u8 = proto;
		rule.field[PROTO].mask_range.u8 = 0xff;
		rule.field[SRC].value.u32 = ntohl(from.s_addr);
		rule.field[SRC].mask_range.u32 = src_bits;
		rule.field[DST].value.u32 = ntohl(to.s_addr);
		rule.field[DST].mask_range.u32 = dst_bits;
		rule.field[SPORT].mask_range.u16 = UINT16_MAX;
		rule.field[DPORT].value.u16 = port;
		rule.field[DPORT].mask_range.u16 = port;
		if (rte_acl_add_rules(acl, (struct rte_acl_rule *)&rule, 1) != 0)
			break;
	}
	int complete = feof(file);
	fclose(file);
	return complete ? count : -1;
}

static struct key *read_keys(const char *path, size_t *count)
{
	FILE *file = fopen(path, "rb");

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		return NULL;
	*count = ftell(file) / sizeof(struct key) / PIECE * PIECE;
	rewind(file);
	struct key *keys = malloc(*count * sizeof(*keys));
	if (keys == NULL || fread(keys, sizeof(*keys), *count, file) != *count)
		return NULL;
	fclose(file);
	return keys;
}

/* Reads keys before the clock starts: who asks has them at hand. Our side does the same. */
static void at_hand(const struct key *keys, size_t count)
{
	volatile uint32_t sum = 0;
	uint32_t all = 0;

	for (size_t i = 0; i < count; i++)
		all += keys[i].src + keys[i].dport;
	sum = all;
	(void)sum;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: classify RULES KEYS SECONDS NAME [EAL ARGUMENT ...]\n");
		return 2;
	}
	double seconds = strtod(argv[3], NULL);
	size_t count;
	struct key *keys = read_keys(argv[2], &count);

	if (keys == NULL || count == 0) {
		fprintf(stderr, "%s: no keys\n", argv[2]);
		return 1;
	}
	if (rte_eal_init(argc - 4, argv + 4) < 0) {
		fprintf(stderr, "rte_eal_init: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	struct rte_acl_param parameters = {
		.name = "rules",
		.rule_size = RTE_ACL_RULE_SZ(FIELDS),
		.max_rule_num = RULES_MAX,
	};
	struct rte_acl_config config = { .num_categories = 1, .num_fields = FIELDS };
	struct rte_acl_ctx *acl = rte_acl_create(&parameters);
	if (acl == NULL || add_rules(acl, argv[1]) <= 0) {
		fprintf(stderr, "%s: a rule was refused\n", argv[1]);
		return 1;
	}
	memcpy(config.defs, fields, sizeof(fields));
	double began = now();
	int error = rte_acl_build(acl, &config);
	if (error != 0) {
		fprintf(stderr, "rte_acl_build: %s\n", rte_strerror(-error));
		return 1;
	}
	double built_us = (now() - began) * 1e6;
	static double pieces[PIECES_MAX];
	uint64_t permitted = 0;
	size_t timed = 0;
	began = now();
	for (int pass = 0; now() - began < seconds; pass++) {
		for (size_t i = 0; i < count && timed < PIECES_MAX; i += PIECE) {
			uint32_t matched = 0, results[BURST];
			const uint8_t *burst[BURST];

			at_hand(&keys[i], PIECE);
			double start = now();
			for (size_t j = i; j < i + PIECE; j += BURST) {
				for (int k = 0; k < BURST; k++)
					burst[k] = (const uint8_t *)&keys[j + k];
				rte_acl_classify(acl, burst, results, BURST, 1);
				for (int k = 0; k < BURST; k++)
					matched += results[k] != 0;
			}
			pieces[timed++] = PIECE / (now() - start);
			permitted += pass == 0 ? matched : 0;
		}
	}
	qsort(pieces, timed, sizeof(*pieces), compare);
	printf("%.0f %" PRIu64 " %zu %.0f\n", pieces[(timed - 1) / 2], permitted, count, built_us);
	return 0;
}
