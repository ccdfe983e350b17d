#include "test.h"

#include <ctype.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "node/config.h"

/* Each test runs in an empty directory of its own. */
struct place {
    char path[64];
    char home[4096];
    struct op op;
};

static int setup(void **state)
{
    struct place *p = mem_new(struct place);
    (void)snprintf(p->path, sizeof p->path, "/tmp/elacsym-config-XXXXXX");
    assert_non_null(getcwd(p->home, sizeof p->home));
    assert_non_null(mkdtemp(p->path));
    assert_int_equal(0, chdir(p->path));
    op_init(&p->op, OP_NO_DEADLINE, 0);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    (void)unlink("config.toml");
    (void)unlink("other.toml");
    assert_int_equal(0, chdir(p->home));
    assert_int_equal(0, rmdir(p->path));
    op_release(&p->op);
    mem_free(p);
    return 0;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    assert_int_equal(size, fwrite(bytes, 1, size, f));
    assert_int_equal(0, fclose(f));
}

static const char *const nothing[] = {NULL};

#define ENVIRONMENT(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct config *load(struct place *p, const char *toml,
                           const char *const *environment)
{
    struct config *c = NULL;
    if (toml) write_file("config.toml", toml, strlen(toml));
    enum err e = config_load(&p->op, NULL, environment, &c);
    if (e) print_message("%s\n", p->op.error);
    assert_int_equal(ERR_OK, e);
    return c;
}

/* The one line that names the fault holds all the words (NULL ends them). */
static void refused(struct place *p, const char *toml, const char *const *environment,
                    const char *const *words)
{
    struct config *c = NULL;
    if (toml) write_file("config.toml", toml, strlen(toml));
    assert_int_equal(ERR_INVALID, config_load(&p->op, NULL, environment, &c));
    assert_null(c);
    for (; *words; words++)
        if (!strstr(p->op.error, *words))
            fail_msg("no '%s' in '%s'", *words, p->op.error);
    assert_null(strchr(p->op.error, '\n'));
    op_clear_error(&p->op);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void without_any_file_the_defaults_hold(void **state)
{
    struct config *c = load(*state, NULL, nothing);
    assert_null(c->file);
    assert_string_equal("0.0.0.0", c->server.host);
    assert_int_equal(3000, c->server.port);
    assert_int_equal(STORAGE_LOCAL, c->storage.backend);
    assert_string_equal("./data", c->storage.local_root_path);
    assert_string_equal("", c->storage.s3_wal_prefix);
    assert_true(c->cache.memory_size == INT64_C(4) << 30);
    assert_true(c->cache.disk_size == 0); /* the store is a local folder */
    assert_string_equal("./cache", c->cache.disk_path);
    assert_true(c->compaction.enabled);
    assert_int_equal(3600, c->compaction.interval_secs);
    assert_int_equal(100, c->compaction.max_segments);
    assert_int_equal(1000000, c->compaction.max_total_docs);
    assert_int_equal(LOG_INFO, c->logging.level);
    assert_int_equal(LOG_JSON, c->logging.format);
    assert_false(c->distributed.enabled);
    assert_int_equal(ROLE_NONE, c->distributed.role);
    assert_string_equal("http://{node_id}:{port}", c->distributed.address_template);
    config_free(c);
}

static const char guide_indexer[] =
    "[server]\nhost = \"0.0.0.0\"\nport = 3000\n"
    "[storage]\nbackend = \"s3\"\n"
    "[storage.s3]\nbucket = \"elacsym-data\"\n"
    "region = \"us-east-1\"\n"
    "endpoint = \"http://minio:9000\"\n"
    "wal_prefix = \"production\"\n"
    "[cache]\nmemory_size = 8589934592  # 8 GiB\n"
    "disk_size = 107374182400\n"
    "disk_path = \"/var/cache/elacsym\"\n"
    "[compaction]\nenabled = true\ninterval_secs = 3600\n"
    "max_segments = 100\nmax_total_docs = 1000000\n"
    "[logging]\nlevel = \"info\"\nformat = \"json\"\n"
    "[distributed]\nenabled = true\n"
    "node_id = \"indexer-1\"\nrole = \"indexer\"\n"
    "[distributed.indexer_cluster]\nnodes = [\n"
    "  \"indexer-1\",\n  \"indexer-2\",\n"
    "  \"indexer-3\"\n]\n";

static void on_s3_commits_are_paced_unless_somebody_says_otherwise(void **state)
{
    static const char s3[] = "[storage]\nbackend = \"s3\"\n[storage.s3]\nbucket = "
                             "\"bbb\"\n";
    struct config *c = load(*state, s3, nothing);
    assert_int_equal(100, c->commit.interval_ms);
    config_free(c);

    const char *const zero[] = {"ELACSYM_COMMIT_INTERVAL_MS=0", NULL};
    c = load(*state, s3, zero);
    assert_int_equal(0, c->commit.interval_ms);
    config_free(c);

    c = load(*state, "", nothing);
    assert_int_equal(0, c->commit.interval_ms);
    config_free(c);
}

static void a_local_store_has_a_disk_cache_only_if_its_size_is_set(void **state)
{
    struct config *c = load(*state, "[cache]\ndisk_path = \"/somewhere\"\n", nothing);
    assert_true(c->cache.disk_size == 0);
    config_free(c);

    c = load(*state, "[cache]\ndisk_size = 5000000\n", nothing);
    assert_true(c->cache.disk_size == 5000000);
    config_free(c);

    c = load(*state, "[storage]\nbackend = \"s3\"\n[storage.s3]\nbucket = \"bbb\"\n",
             nothing);
    assert_true(c->cache.disk_size == INT64_C(100) << 30);
    config_free(c);
}

static void the_guides_indexer_file_is_read(void **state)
{
    struct config *c = load(*state, guide_indexer, nothing);
    assert_string_equal("config.toml", c->file);
    assert_int_equal(STORAGE_S3, c->storage.backend);
    assert_string_equal("elacsym-data", c->storage.s3_bucket);
    assert_string_equal("http://minio:9000", c->storage.s3_endpoint);
    assert_string_equal("production", c->storage.s3_wal_prefix);
    assert_true(c->cache.memory_size == INT64_C(8) << 30);
    assert_int_equal(ROLE_INDEXER, c->distributed.role);
    assert_int_equal(3, c->distributed.nodes.count);
    assert_string_equal("indexer-2", c->distributed.nodes.items[1]);
    config_free(c);
}

static void environment_beats_file_beats_default(void **state)
{
    struct config *c =
        load(*state,
             "[server]\nport = 3100\nhost = \"::1\"\n[storage.local]\nroot_path='/a'\n",
             ENVIRONMENT("PATH=/bin", "ELACSYM_SERVER_PORT=3200",
                         "ELACSYM_STORAGE_LOCAL_ROOT_PATH=/b",
                         "ELACSYM_COMPACTION_ENABLED=false",
                         "ELACSYM_LOGGING_FORMAT=text"));
    assert_int_equal(3200, c->server.port);
    assert_string_equal("::1", c->server.host);
    assert_string_equal("/b", c->storage.local_root_path);
    assert_false(c->compaction.enabled);
    assert_int_equal(LOG_TEXT, c->logging.format);
    config_free(c);
}

static void the_file_is_looked_for_in_order(void **state)
{
    struct place *p = *state;
    static const char other[] = "[server]\nport = 1\n";
    static const char local[] = "[server]\nport = 2\n";
    struct config *c;
    write_file("other.toml", other, strlen(other));
    write_file("config.toml", local, strlen(local));
    assert_int_equal(ERR_OK, config_load(&p->op, NULL, nothing, &c));
    assert_int_equal(2, c->server.port);
    config_free(c);
    assert_int_equal(ERR_OK, config_load(&p->op, NULL,
                                         ENVIRONMENT("ELACSYM_CONFIG=other.toml"), &c));
    assert_int_equal(1, c->server.port);
    config_free(c);
    assert_int_equal(ERR_OK, config_load(&p->op, "config.toml",
                                         ENVIRONMENT("ELACSYM_CONFIG=other.toml"), &c));
    assert_int_equal(2, c->server.port);
    config_free(c);
}

static void a_named_file_that_is_missing_stops_the_start(void **state)
{
    struct place *p = *state;
    struct config *c;
    assert_int_equal(ERR_INVALID, config_load(&p->op, "none.toml", nothing, &c));
    assert_non_null(strstr(p->op.error, "none.toml: No such file"));
    op_clear_error(&p->op);
    refused(p, NULL, ENVIRONMENT("ELACSYM_CONFIG=none.toml"), WORDS("none.toml"));
    assert_int_equal(ERR_INVALID, config_load(&p->op, ".", nothing, &c));
    op_clear_error(&p->op);
}

static void unknown_keys_are_named_with_what_is_known(void **state)
{
    struct place *p = *state;
    refused(p, "[server]\nport = 1\nprot = 3000\n", nothing,
            WORDS("server.prot", "3000", "config.toml line 3", "host, port"));
    refused(p, "[sever]\nport = 3000\n", nothing,
            WORDS("sever.port", "3000", "config.toml line 2", "[server]"));
    refused(p, "port = 3000\n", nothing, WORDS("unknown key port", "[server]"));
    refused(p, "[nonsense]\n", nothing, WORDS("nonsense", "[server]"));
    refused(p, "[storage]\ns3 = 1\n", nothing, WORDS("storage.s3"));
    refused(p, "\"server.port\" = 3000\n", nothing, WORDS("server.port", "[server]"));
    refused(p, "[\"storage.local\"]\nroot_path = \"/a\"\n", nothing,
            WORDS("\"storage.local\".root_path"));
    refused(p, "[[server]]\nport = 3000\n", nothing, WORDS("server"));
}

static void empty_known_tables_are_fine(void **state)
{
    config_free(load(*state,
                     "[server]\n[storage.s3]\n[distributed.indexer_cluster]\n"
                     "[distributed.indexer_cluster.addresses]\n",
                     nothing));
}

static void unknown_variables_are_named_with_similar_ones(void **state)
{
    struct place *p = *state;
    refused(p, NULL, ENVIRONMENT("ELACSYM_SERVER_PROT=1"),
            WORDS("ELACSYM_SERVER_PROT = 1", "ELACSYM_SERVER_PORT"));
    refused(p, NULL, ENVIRONMENT("ELACSYM_=1"), WORDS("ELACSYM_ = 1"));
    refused(p, NULL, ENVIRONMENT("ELACSYM_server_port=1"),
            WORDS("ELACSYM_server_port"));
    refused(p, NULL, ENVIRONMENT("ELACSYM_AWS_SECRET=hush"), WORDS("***"));
    struct config *c;
    assert_int_equal(ERR_INVALID,
                     config_load(&p->op, NULL, ENVIRONMENT("ELACSYM_API_TOKEN=hush"),
                                 &c));
    assert_null(strstr(p->op.error, "hush"));
    op_clear_error(&p->op);
}

static void variables_that_are_no_keys_are_left_alone(void **state)
{
    config_free(
        load(*state, NULL,
             ENVIRONMENT("ELACSYM_SIMD=plain", "ELACSYM_SEED=1", "ELACSYM_DATA=/d",
                         "ELACSYM_CONFIG=", "ELACSYMBOL=1", "ELACSYM_NO_EQUALS")));
}

static void wrong_types_and_ranges_name_what_is_allowed(void **state)
{
    static const struct {
        const char *toml;
        const char *words[4];
    } cases[] = {
        {"[server]\nport = \"3000\"\n",
         {"server.port = 3000 (config.toml line 2)", "integer from 0 to 65535"}},
        {"[server]\nport = 65536\n",
         {"server.port = 65536", "integer from 0 to 65535"}},
        {"[server]\nport = -1\n", {"server.port = -1"}},
        {"[server]\nport = 3000.0\n", {"server.port = 3000.0"}},
        {"[server]\nport = true\n", {"server.port = true"}},
        {"[server]\nport = [1, 2]\n", {"server.port = [ 1, 2 ]"}},
        {"[server]\nport = [-9223372036854775808, inf, nan, 0.001]\n",
         {"server.port = [ -9223372036854775808, inf, nan, 0.001 ]"}},
        {"[server]\nport = [[], {}, {a = 1, \"b.c\" = [\"d\\ne\"]}]\n",
         {"server.port = [ [], {}, { a = 1, \"b.c\" = [ \"d\\ne\" ] } ]"}},
        {"[server]\nhost = \"\"\n", {"server.host", "an address or a host name"}},
        {"[server]\nhost = 1\n", {"server.host = 1"}},
        {"[storage]\nbackend = \"ceph\"\n",
         {"storage.backend = ceph", "one of local, s3"}},
        {"[storage.s3]\nbucket = \"A_b\"\n", {"storage.s3.bucket = A_b"}},
        {"[storage.s3]\nbucket = \"ab\"\n", {"storage.s3.bucket = ab"}},
        {"[storage.s3]\nendpoint = \"minio:9000\"\n", {"storage.s3.endpoint"}},
        {"[storage.s3]\nendpoint = \"http://\"\n", {"storage.s3.endpoint"}},
        {"[storage.s3]\nwal_prefix = \"/a\"\n", {"storage.s3.wal_prefix = /a"}},
        {"[storage.s3]\nwal_prefix = \"a/\"\n", {"storage.s3.wal_prefix"}},
        {"[storage.s3]\nwal_prefix = "
         "\"0123456789012345678901234567890123456789012345678901234567890123x\"\n",
         {"storage.s3.wal_prefix", "at most 64 bytes"}},
        {"[storage.s3]\nwal_prefix = \"a//b\"\n", {"storage.s3.wal_prefix"}},
        {"[storage.s3]\nwal_prefix = \"a/../b\"\n", {"storage.s3.wal_prefix"}},
        {"[storage.s3]\nwal_prefix = \".\"\n", {"storage.s3.wal_prefix"}},
        {"[cache]\nmemory_size = 1\n", {"cache.memory_size = 1"}},
        {"[compaction]\nenabled = \"true\"\n",
         {"compaction.enabled = true", "true or false"}},
        {"[logging]\nlevel = \"INFO\"\n",
         {"logging.level = INFO", "one of trace, debug, info, warn, error"}},
        {"[distributed]\nrole = \"writer\"\n",
         {"distributed.role = writer", "one of indexer, query"}},
        {"[distributed]\nnode_id = \"a b\"\n", {"distributed.node_id = a b"}},
        {"[distributed.indexer_cluster]\nnodes = \"a\"\n", {"nodes = a", "a list"}},
        {"[distributed.indexer_cluster]\nnodes = [1]\n", {"nodes = [ 1 ]", "a list"}},
        {"[distributed.indexer_cluster]\nnodes = [\"\"]\n", {"nodes"}},
        {"[distributed.indexer_cluster]\naddress_template = \"http://x\"\n",
         {"address_template", "{node_id}"}},
        {"[distributed.indexer_cluster.addresses]\na = 1\n", {"addresses", "a table"}},
        {"[distributed.indexer_cluster.addresses]\na = \"x\"\n", {"addresses = a = x"}},
        {"[server]\nhost = \"a\\nb\\u001b\"\nport = 70000\n", {"server.port"}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        refused(*state, cases[i].toml, nothing, cases[i].words);
}

static void variables_are_checked_like_keys(void **state)
{
    struct place *p = *state;
    static const char *const ports[] = {"",    "x",   "1x",    " 1",
                                        "+1",  "1.0", "65536", "99999999999999999999",
                                        "0x10"};
    for (size_t i = 0; i < COUNT_OF(ports); i++) {
        char variable[64];
        (void)snprintf(variable, sizeof variable, "ELACSYM_SERVER_PORT=%s", ports[i]);
        refused(p, NULL, ENVIRONMENT(variable),
                WORDS("server.port", "(ELACSYM_SERVER_PORT)",
                      "integer from 0 to 65535"));
    }
    refused(p, NULL, ENVIRONMENT("ELACSYM_COMPACTION_ENABLED=yes"),
            WORDS("true or false"));
    refused(p, NULL, ENVIRONMENT("ELACSYM_SERVER_HOST="), WORDS("server.host"));
}

static void what_is_not_toml_is_one_line_with_its_place(void **state)
{
    struct place *p = *state;
    refused(p, "[server]\nport = \n", nothing, WORDS("config.toml line 2"));
    refused(p, "[server\n", nothing, WORDS("config.toml line 1"));
    refused(p, "[server]\nport = 1\nport = 2\n", nothing, WORDS("config.toml line 3"));
    refused(p, "[server]\n[server]\n", nothing, WORDS("config.toml line 2"));
    refused(p, "[server]\nhost = \"\xff\"\n", nothing, WORDS("config.toml line 2"));
    struct buf deep = BUF_INIT;
    buf_append_str(&deep, "a = ");
    for (int i = 0; i < 100000; i++)
        buf_append_byte(&deep, '[');
    buf_append_byte(&deep, '\0');
    refused(p, (const char *)deep.data, nothing, WORDS("config.toml"));
    buf_release(&deep);
}

static void letters_that_no_key_may_hold_are_refused_with_their_line(void **state)
{
    struct place *p = *state;
    refused(p, "\xc3\xa9 = 1\n", nothing, WORDS("line 1", "saw '\xc3\xa9'"));
    refused(p, "\n[\xc3\xa9]\n", nothing, WORDS("line 2", "saw '\xc3\xa9'"));
    refused(p, "a = { \xc3\xa9 = 2 }\n", nothing, WORDS("line 1", "saw '\xc3\xa9'"));
    refused(p, "a.\xe2\x82\xac = 2\n", nothing, WORDS("line 1", "saw"));
}

static void a_file_above_a_mebibyte_is_refused(void **state)
{
    struct place *p = *state;
    struct config *c;
    struct buf big = BUF_INIT;
    while (big.size <= 1 << 20)
        buf_append_str(&big, "# nothing but comments\n");
    write_file("config.toml", big.data, big.size);
    assert_int_equal(ERR_INVALID, config_load(&p->op, NULL, nothing, &c));
    assert_non_null(strstr(p->op.error, "more than"));
    buf_release(&big);
}

/* Cut anywhere, the guide's file is read or refused, never a crash. */
static void a_file_cut_anywhere_is_read_or_refused(void **state)
{
    struct place *p = *state;
    for (size_t size = 0; size < sizeof guide_indexer; size++) {
        struct config *c = NULL;
        write_file("config.toml", guide_indexer, size);
        enum err e = config_load(&p->op, NULL, nothing, &c);
        assert_true(e == ERR_OK || e == ERR_INVALID);
        assert_true((e == ERR_OK) == (c != NULL));
        config_free(c);
        op_clear_error(&p->op);
    }
}

static void node_id_and_role_have_short_variables(void **state)
{
    struct place *p = *state;
    struct config *c =
        load(p, "[distributed]\nrole = \"indexer\"\nnode_id = \"a\"\n",
             ENVIRONMENT("ELACSYM_NODE_ID=indexer-2", "ELACSYM_NODE_ROLE=indexer"));
    assert_string_equal("indexer-2", c->distributed.node_id);
    assert_int_equal(ROLE_INDEXER, c->distributed.role);
    config_free(c);
    c = load(p, "",
             ENVIRONMENT("ELACSYM_DISTRIBUTED_NODE_ID=x",
                         "ELACSYM_DISTRIBUTED_ROLE=query"));
    assert_string_equal("x", c->distributed.node_id);
    assert_int_equal(ROLE_QUERY, c->distributed.role);
    config_free(c);
    refused(p, "", ENVIRONMENT("ELACSYM_NODE_ID=a", "ELACSYM_DISTRIBUTED_NODE_ID=b"),
            WORDS("ELACSYM_NODE_ID", "ELACSYM_DISTRIBUTED_NODE_ID",
                  "distributed.node_id"));
}

static void begins_with(struct place *p, const char *toml,
                        const char *const *environment, const char *sentence)
{
    struct config *c;
    write_file("config.toml", toml, strlen(toml));
    assert_int_equal(ERR_INVALID, config_load(&p->op, NULL, environment, &c));
    if (strncmp(p->op.error, sentence, strlen(sentence)) != 0)
        fail_msg("'%s' does not begin with '%s'", p->op.error, sentence);
    op_clear_error(&p->op);
}

static void the_guides_two_refusals_are_word_for_word(void **state)
{
    struct place *p = *state;
    begins_with(p, guide_indexer, ENVIRONMENT("ELACSYM_NODE_ID=indexer-9"),
                "node_id not found in indexer_cluster.nodes");
    begins_with(p, guide_indexer, ENVIRONMENT("ELACSYM_NODE_ROLE=query"),
                "Role mismatch: node configured as Indexer but processing as Query");
    begins_with(p, "[distributed]\nrole = \"query\"\n",
                ENVIRONMENT("ELACSYM_NODE_ROLE=indexer"),
                "Role mismatch: node configured as Query but processing as Indexer");
}

static void a_distributed_node_needs_s3_an_id_a_role_and_the_list(void **state)
{
    struct place *p = *state;
    static const char s3[] =
        "[storage]\nbackend = \"s3\"\n[storage.s3]\nbucket = \"bbb\"\n";
    char toml[512];
    refused(p, "[distributed]\nenabled = true\n", nothing,
            WORDS("storage.backend = local", "needs s3"));
    (void)snprintf(toml, sizeof toml, "%s[distributed]\nenabled = true\n", s3);
    refused(p, toml, nothing, WORDS("distributed.node_id", "ELACSYM_NODE_ID"));
    refused(p, toml, ENVIRONMENT("ELACSYM_NODE_ID=q"),
            WORDS("distributed.role", "ELACSYM_NODE_ROLE"));
    refused(p, toml, ENVIRONMENT("ELACSYM_NODE_ID=q", "ELACSYM_NODE_ROLE=query"),
            WORDS("distributed.indexer_cluster.nodes"));
    static const char nodes[] = "ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_NODES=a,b";
    struct config *c =
        load(p, toml,
             ENVIRONMENT("ELACSYM_NODE_ID=q", "ELACSYM_NODE_ROLE=query", nodes));
    assert_int_equal(2, c->distributed.nodes.count);
    assert_string_equal("b", c->distributed.nodes.items[1]);
    config_free(c);
    static const char twice[] = "ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_NODES=a,b,a";
    refused(p, toml, ENVIRONMENT("ELACSYM_NODE_ID=q", "ELACSYM_NODE_ROLE=query", twice),
            WORDS("nodes = a", "twice"));
    char *addresses = (char[]){
        "ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_ADDRESSES=a=http://h:1,c=http://h:2"};
    refused(p, toml,
            ENVIRONMENT("ELACSYM_NODE_ID=q", "ELACSYM_NODE_ROLE=query", nodes,
                        addresses),
            WORDS("addresses = c"));
    refused(p, toml, ENVIRONMENT("ELACSYM_NODE_ID=a", "ELACSYM_NODE_ROLE=query", nodes),
            WORDS("distributed.node_id = a", "role is query"));
}

static void values_that_do_not_fit_together_are_refused(void **state)
{
    struct place *p = *state;
    refused(p, "[storage]\nbackend = \"s3\"\n", nothing, WORDS("storage.s3.bucket"));
    refused(p, "[server]\nmax_body_memory = 1048576\n", nothing,
            WORDS("server.max_body_memory = 1048576", "server.max_body_bytes"));
    refused(p, "[server]\nshutdown_timeout_secs = 3\n", nothing,
            WORDS("server.drain_wait_secs"));
    refused(p, "[tail]\nmax_bytes = 16777216\n", nothing, WORDS("tail.index_bytes"));
}

static void an_endpoint_with_a_password_is_refused(void **state)
{
    refused(*state, "[storage.s3]\nendpoint = \"http://user:pw@minio:9000\"\n", nothing,
            WORDS("storage.s3.endpoint", "without user and password"));
}

/* What is printed is itself a configuration file, with the same effect. */
static void the_printed_configuration_reads_back_the_same(void **state)
{
    struct place *p = *state;
    struct config *c =
        load(p, guide_indexer,
             ENVIRONMENT("ELACSYM_SERVER_PORT=3100",
                         "ELACSYM_CACHE_DISK_PATH=/a \"b\\\tc",
                         "ELACSYM_DISTRIBUTED_INDEXER_CLUSTER_ADDRESSES="
                         "indexer-1=http://a:1,indexer-2=https://b:2/x"));
    struct buf first = BUF_INIT, second = BUF_INIT;
    config_print(c, &first);
    config_free(c);
    buf_append_byte(&first, '\0');
    const char *text = (const char *)first.data;
    assert_non_null(strstr(text, "port = 3100"));
    assert_non_null(strstr(text, "# ELACSYM_SERVER_PORT\n"));
    assert_non_null(strstr(text, "# config.toml line "));
    assert_non_null(strstr(text, "# default\n"));

    c = load(p, text, nothing);
    config_print(c, &second);
    config_free(c);
    buf_append_byte(&second, '\0');
    /* The same but for the comments. */
    char *a = (char *)first.data, *b = (char *)second.data;
    char *line_a, *line_b;
    while ((line_a = strsep(&a, "\n")) && (line_b = strsep(&b, "\n"))) {
        size_t size = strcspn(line_a, "#");
        assert_int_equal(size, strcspn(line_b, "#"));
        assert_memory_equal(line_a, line_b, size);
    }
    assert_true(!a && !b);
    buf_release(&first);
    buf_release(&second);
}

static void every_key_can_be_set_by_its_variable(void **state)
{
    struct place *p = *state;
    for (size_t i = 0; config_key_name(i); i++) {
        struct buf variable = BUF_INIT, value = BUF_INIT;
        struct config *c;
        config_key_variable(i, &variable);
        config_key_default(i, &value);
        buf_append_byte(&variable, '=');
        for (size_t j = 0; j < value.size; j++) /* a TOML string's quotes go */
            if (!strchr("\"[]{}", value.data[j]) ||
                (value.size > 2 && strchr("{}", value.data[j])))
                buf_append_byte(&variable, value.data[j]);
        buf_append_byte(&variable, '\0');
        enum err e =
            config_load(&p->op, NULL, ENVIRONMENT((const char *)variable.data), &c);
        if (e) fail_msg("%s: %s", (char *)variable.data, p->op.error);
        config_free(c);
        buf_release(&variable);
        buf_release(&value);
    }
}

/* docs/configuration.md has one row per key: | `key` | `default` | …, and no others. */
static void the_page_and_the_table_agree(void **state)
{
    struct place *p = *state;
    char path[5000], line[2048];
    (void)snprintf(path, sizeof path, "%s/docs/configuration.md", p->home);
    FILE *page = fopen(path, "r");
    assert_non_null(page);
    size_t keys = 0, rows = 0;
    while (config_key_name(keys))
        keys++;
    bool *seen = mem_new_array(bool, keys);
    while (fgets(line, sizeof line, page)) {
        char key[128], value[128];
        if (sscanf(line, "| `%127[a-z0-9_.]` | `%127[^`]` |", key, value) != 2)
            continue;
        size_t i = 0;
        while (i < keys && strcmp(config_key_name(i), key) != 0)
            i++;
        if (i == keys) fail_msg("the page has %s, the table has not", key);
        struct buf want = BUF_INIT;
        config_key_default(i, &want);
        buf_append_byte(&want, '\0');
        if (strcmp((char *)want.data, value) != 0)
            fail_msg("%s: page %s, table %s", key, value, (char *)want.data);
        assert_false(seen[i]);
        seen[i] = true;
        rows++;
        buf_release(&want);
    }
    for (size_t i = 0; i < keys; i++)
        if (!seen[i]) fail_msg("%s is not on the page", config_key_name(i));
    assert_int_equal(keys, rows);
    mem_free(seen);
    assert_int_equal(0, fclose(page));
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACED(without_any_file_the_defaults_hold),
        PLACED(a_local_store_has_a_disk_cache_only_if_its_size_is_set),
        PLACED(on_s3_commits_are_paced_unless_somebody_says_otherwise),
        PLACED(the_guides_indexer_file_is_read),
        PLACED(environment_beats_file_beats_default),
        PLACED(the_file_is_looked_for_in_order),
        PLACED(a_named_file_that_is_missing_stops_the_start),
        PLACED(unknown_keys_are_named_with_what_is_known),
        PLACED(empty_known_tables_are_fine),
        PLACED(unknown_variables_are_named_with_similar_ones),
        PLACED(variables_that_are_no_keys_are_left_alone),
        PLACED(wrong_types_and_ranges_name_what_is_allowed),
        PLACED(variables_are_checked_like_keys),
        PLACED(what_is_not_toml_is_one_line_with_its_place),
        PLACED(letters_that_no_key_may_hold_are_refused_with_their_line),
        PLACED(a_file_above_a_mebibyte_is_refused),
        PLACED(a_file_cut_anywhere_is_read_or_refused),
        PLACED(node_id_and_role_have_short_variables),
        PLACED(the_guides_two_refusals_are_word_for_word),
        PLACED(a_distributed_node_needs_s3_an_id_a_role_and_the_list),
        PLACED(values_that_do_not_fit_together_are_refused),
        PLACED(an_endpoint_with_a_password_is_refused),
        PLACED(the_printed_configuration_reads_back_the_same),
        PLACED(every_key_can_be_set_by_its_variable),
        PLACED(the_page_and_the_table_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
