#include "store/s3_credentials.h"

#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/op.h"
#include "store/s3_http.h"
#include "store/s3_process.h"
#include "unit/http_canned.h"
#include "unit/scratch.h"
#include "unit/test.h"

enum { VARIABLES_MAX = 8, TEXT_MAX = 1024 };

struct fixture {
    struct op op;
    struct s3_http *http;
    struct canned server;
    struct scratch scratch;
    char texts[VARIABLES_MAX][TEXT_MAX];
    const char *environment[VARIABLES_MAX + 1];
    struct s3_credentials *credentials;
};

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    const struct s3_http_options options = {.connections_max = 8, .connect_ms = 1000};
    op_init(&f->op, OP_NO_DEADLINE, 0);
    canned_start(&f->server);
    scratch_make(&f->scratch);
    *state = f;
    return s3_http_new(&f->op, &options, &f->http);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    s3_credentials_free(f->credentials);
    s3_http_free(f->http);
    canned_stop(&f->server);
    scratch_remove(&f->scratch);
    op_release(&f->op);
    mem_free(f);
    return 0;
}

/* %p is the server's port, %d the scratch folder. */
static void set(struct fixture *f, const char *text)
{
    size_t i = 0;
    struct buf out = BUF_INIT;
    while (f->environment[i])
        i++;
    for (; *text; text++) {
        if (text[0] == '%' && text[1] == 'p')
            buf_printf(&out, "%d", f->server.port);
        else if (text[0] == '%' && text[1] == 'd')
            buf_append_str(&out, f->scratch.path);
        else {
            buf_append_byte(&out, (uint8_t)*text);
            continue;
        }
        text++;
    }
    assert_true(i < VARIABLES_MAX && out.size < TEXT_MAX);
    memcpy(f->texts[i], out.data, out.size);
    f->environment[i] = f->texts[i];
    buf_release(&out);
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", f->scratch.path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    fclose(file);
}

static enum err get(struct fixture *f, const struct s3_secret **secret)
{
    const struct s3_credentials_options options = {.http = f->http,
                                                   .environment = f->environment,
                                                   .region = "us-east-1"};
    if (!f->credentials) f->credentials = s3_credentials_new(&options);
    op_clear_error(&f->op);
    return s3_credentials_get(&f->op, f->credentials, true, secret);
}

static void assert_gives(struct fixture *f, const char *key, const char *secret_key,
                         const char *token)
{
    const struct s3_secret *secret = NULL;
    if (get(f, &secret) != ERR_OK) fail_msg("%s", f->op.error);
    assert_string_equal(secret->access_key, key);
    assert_string_equal(secret->secret_key, secret_key);
    assert_string_equal(secret->token, token);
    s3_secret_unref(secret);
}

static void assert_refuses(struct fixture *f, const char *words)
{
    const struct s3_secret *secret = NULL;
    assert_int_equal(get(f, &secret), ERR_DENIED);
    if (!strstr(f->op.error, words)) fail_msg("%s", f->op.error);
}

/* JSON as containers and instances give it, good for so many seconds. */
static const char *json(struct fixture *f, const char *key, int seconds)
{
    char date[32];
    time_t end = time(NULL) + seconds;
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &utc));
    return op_printf(
        &f->op,
        "{\"Code\":\"Success\",\"Version\":1,\"AccessKeyId\":\"%s\","
        "\"SecretAccessKey\":\"s/+\",\"Token\":\"t\",\"Expiration\":\"%s\"}",
        key, date);
}

static void the_environment_comes_first(void **state)
{
    struct fixture *f = *state;
    set(f, "AWS_ACCESS_KEY_ID=AK");
    set(f, "AWS_SECRET_ACCESS_KEY=SK");
    set(f, "AWS_SESSION_TOKEN=ST");
    set(f, "AWS_PROFILE=missing");
    assert_gives(f, "AK", "SK", "ST");
}

static void half_a_pair_in_the_environment_is_a_fault(void **state)
{
    struct fixture *f = *state;
    set(f, "AWS_ACCESS_KEY_ID=AK");
    assert_refuses(f, "only one of");
}

static void a_key_with_a_line_break_is_refused(void **state)
{
    struct fixture *f = *state;
    set(f, "AWS_ACCESS_KEY_ID=AK\r\nx-amz-acl: public-read");
    set(f, "AWS_SECRET_ACCESS_KEY=SK");
    assert_refuses(f, "no key can hold");
}

static void web_identity_asks_sts_with_the_token_of_the_file(void **state)
{
    struct fixture *f = *state;
    write_file(f, "token", "the.token/+=\n");
    set(f, "AWS_WEB_IDENTITY_TOKEN_FILE=%d/token");
    set(f, "AWS_ROLE_ARN=arn:aws:iam::1:role/r");
    set(f, "AWS_ENDPOINT_URL_STS=http://127.0.0.1:%p/");
    canned_set(
        &f->server, 0,
        (struct canned_answer){
            "POST / ", "WebIdentityToken=the.token%2F%2B%3D", 200,
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>"
            "<Credentials><AccessKeyId>WK</AccessKeyId><SecretAccessKey>WS"
            "</SecretAccessKey><SessionToken>WT</SessionToken><Expiration>"
            "2099-01-01T00:00:00Z</Expiration></Credentials>"
            "</AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>",
            0});
    assert_gives(f, "WK", "WS", "WT");
}

static void a_profile_gives_its_keys(void **state)
{
    struct fixture *f = *state;
    write_file(f, "credentials",
               "# mine\n[default]\naws_access_key_id = D\naws_secret_access_key = D\n"
               "[work]\r\naws_access_key_id=PK\r\n aws_secret_access_key=nested\n"
               "aws_secret_access_key = P/S+= \naws_session_token=PT\n[other]\n");
    set(f, "AWS_SHARED_CREDENTIALS_FILE=%d/credentials");
    set(f, "AWS_CONFIG_FILE=%d/none");
    set(f, "AWS_PROFILE=work");
    assert_gives(f, "PK", "P/S+=", "PT");
}

static void the_default_profile_is_found_under_home(void **state)
{
    struct fixture *f = *state;
    char path[300];
    snprintf(path, sizeof path, "%s/.aws", f->scratch.path);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(f, ".aws/config",
               "[default]\naws_access_key_id = HK\naws_secret_access_key = HS\n");
    set(f, "HOME=%d");
    assert_gives(f, "HK", "HS", "");
}

static void a_profile_that_is_not_there_is_named(void **state)
{
    struct fixture *f = *state;
    set(f, "HOME=%d");
    set(f, "AWS_PROFILE=nobody");
    assert_refuses(f, "profile nobody");
}

static void a_credential_process_is_asked(void **state)
{
    struct fixture *f = *state;
    write_file(f, "config",
               "[profile p]\ncredential_process = echo '{\"Version\": 1, "
               "\"AccessKeyId\": \"CK\", \"SecretAccessKey\": \"CS\", "
               "\"SessionToken\": null}'\n");
    set(f, "AWS_CONFIG_FILE=%d/config");
    set(f, "AWS_SHARED_CREDENTIALS_FILE=%d/none");
    set(f, "AWS_PROFILE=p");
    assert_gives(f, "CK", "CS", "");
}

static void a_credential_process_that_fails_is_named_and_its_output_is_not(void **state)
{
    struct fixture *f = *state;
    static const char *const commands[] = {"echo hidden-secret; exit 3",
                                           "echo '{\"SecretAccessKey\": hidden-secret'",
                                           "echo '{\"SecretAccessKey\": [1]}'"};
    set(f, "AWS_CONFIG_FILE=%d/config");
    set(f, "AWS_SHARED_CREDENTIALS_FILE=%d/none");
    set(f, "AWS_PROFILE=p");
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        write_file(f, "config",
                   op_printf(&f->op, "[profile p]\ncredential_process = %s\n",
                             commands[i]));
        assert_refuses(f, "credential_process");
        assert_null(strstr(f->op.error, "hidden"));
    }
}

static void a_process_that_closes_its_output_and_lives_on_is_ended(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;
    assert_int_equal(s3_process_output(&f->op, "echo x; exec >&-; sleep 20", 200, 100,
                                       &out),
                     ERR_DENIED);
    assert_non_null(strstr(f->op.error, "took too long"));
    buf_release(&out);
}

static void a_process_that_closes_its_output_may_take_a_while_to_end(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;
    assert_int_equal(s3_process_output(&f->op, "echo x; exec >&-; sleep 0.05", 20000,
                                       100, &out),
                     ERR_OK);
    assert_true(slice_equal(buf_slice(&out), slice_str("x\n")));
    buf_release(&out);
}

static void what_a_process_complains_of_goes_nowhere(void **state)
{
    struct fixture *f = *state;
    struct buf out = BUF_INIT;
    assert_int_equal(s3_process_output(&f->op, "readlink /proc/$$/fd/2", 20000, 100,
                                       &out),
                     ERR_OK);
    assert_true(slice_equal(buf_slice(&out), slice_str("/dev/null\n")));
    buf_release(&out);
}

static void a_container_is_asked_with_its_token(void **state)
{
    struct fixture *f = *state;
    write_file(f, "pass", "open sesame\n");
    set(f, "HOME=%d");
    set(f, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%p/creds?x=1");
    set(f, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=%d/pass");
    canned_set(&f->server, 0,
               (struct canned_answer){"GET /creds?x=1 ", "authorization: open sesame",
                                      200, json(f, "EK", 3600), 0});
    assert_gives(f, "EK", "s/+", "t");
}

static void a_container_elsewhere_is_not_asked_in_the_clear(void **state)
{
    struct fixture *f = *state;
    set(f, "HOME=%d");
    set(f, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1.example.org/creds");
    assert_refuses(f, "neither https nor on this machine");
}

static void instance(struct fixture *f)
{
    set(f, "HOME=%d");
    set(f, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:%p");
    canned_set(&f->server, 0,
               (struct canned_answer){"PUT /latest/api/token ",
                                      "x-aws-ec2-metadata-token-ttl-seconds: 21600",
                                      200, "pass", 0});
    canned_set(
        &f->server, 1,
        (struct canned_answer){"GET /latest/meta-data/iam/security-credentials/ ",
                               "x-aws-ec2-metadata-token: pass", 200, "role", 0});
}

static void an_instance_is_asked_by_imds_version_2(void **state)
{
    struct fixture *f = *state;
    instance(f);
    canned_set(&f->server, 2,
               (struct canned_answer){
                   "GET /latest/meta-data/iam/security-credentials/role ",
                   "x-aws-ec2-metadata-token: pass", 200, json(f, "IK", 3600), 0});
    assert_gives(f, "IK", "s/+", "t");
    assert_gives(f, "IK", "s/+", "t");
    assert_int_equal(canned_asked(&f->server, 0), 1);
}

static void an_instance_is_left_alone_when_so_told(void **state)
{
    struct fixture *f = *state;
    instance(f);
    set(f, "AWS_EC2_METADATA_DISABLED=true");
    assert_refuses(f, "none are set");
    assert_int_equal(canned_asked(&f->server, 0), 0);
}

static void serve_key(struct fixture *f, const char *key, int seconds, int delay_ms)
{
    canned_set(
        &f->server, 2,
        (struct canned_answer){"GET /latest/meta-data/iam/security-credentials/role ",
                               NULL, 200, json(f, key, seconds), delay_ms});
}

static void keys_are_renewed_at_three_quarters_of_their_life(void **state)
{
    struct fixture *f = *state;
    instance(f);
    serve_key(f, "K1", 4, 0);
    assert_gives(f, "K1", "s/+", "t");
    serve_key(f, "K2", 3600, 0);
    task_sleep_ms(500);
    assert_gives(f, "K1", "s/+", "t");
    task_sleep_ms(2700);
    assert_gives(f, "K2", "s/+", "t");
    assert_int_equal(canned_asked(&f->server, 2), 2);
}

static void old_keys_serve_until_they_expire_when_new_ones_cannot_be_had(void **state)
{
    struct fixture *f = *state;
    instance(f);
    serve_key(f, "K1", 8, 0);
    assert_gives(f, "K1", "s/+", "t");
    canned_set(
        &f->server, 2,
        (struct canned_answer){"GET /latest/meta-data/iam/security-credentials/role ",
                               NULL, 500, "broken", 0});
    task_sleep_ms(3100);
    assert_gives(f, "K1", "s/+", "t");
    task_sleep_ms(5200);
    assert_refuses(f, "status 500");
}

static void keys_called_expired_are_fetched_again_once(void **state)
{
    struct fixture *f = *state;
    const struct s3_secret *old = NULL;
    instance(f);
    serve_key(f, "K1", 3600, 0);
    assert_int_equal(get(f, &old), ERR_OK);
    serve_key(f, "K2", 3600, 0);
    s3_credentials_expired(f->credentials, old);
    assert_gives(f, "K2", "s/+", "t");
    s3_credentials_expired(f->credentials, old);
    assert_gives(f, "K2", "s/+", "t");
    assert_int_equal(canned_asked(&f->server, 2), 2);
    s3_secret_unref(old);
}

struct asker {
    struct fixture *fixture;
    enum err e;
};

static void ask(void *arg)
{
    struct asker *a = arg;
    const struct s3_secret *secret = NULL;
    struct op op;
    op_init(&op, OP_NO_DEADLINE, 0);
    a->e = s3_credentials_get(&op, a->fixture->credentials, true, &secret);
    s3_secret_unref(secret);
    op_release(&op);
}

static void many_askers_cost_one_fetch(void **state)
{
    struct fixture *f = *state;
    const struct s3_credentials_options options = {.http = f->http,
                                                   .environment = f->environment,
                                                   .region = "us-east-1"};
    struct asker askers[8];
    struct thread *threads[8];
    instance(f);
    serve_key(f, "K1", 3600, 200);
    f->credentials = s3_credentials_new(&options);
    for (int i = 0; i < 8; i++) {
        askers[i] = (struct asker){f, ERR_IO};
        threads[i] = thread_start("asker", ask, &askers[i]);
    }
    for (int i = 0; i < 8; i++) {
        thread_join(threads[i]);
        assert_int_equal(askers[i].e, ERR_OK);
    }
    assert_int_equal(canned_asked(&f->server, 2), 1);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_environment_comes_first),
        CASE(half_a_pair_in_the_environment_is_a_fault),
        CASE(a_key_with_a_line_break_is_refused),
        CASE(web_identity_asks_sts_with_the_token_of_the_file),
        CASE(a_profile_gives_its_keys),
        CASE(the_default_profile_is_found_under_home),
        CASE(a_profile_that_is_not_there_is_named),
        CASE(a_credential_process_is_asked),
        CASE(a_credential_process_that_fails_is_named_and_its_output_is_not),
        CASE(a_process_that_closes_its_output_and_lives_on_is_ended),
        CASE(a_process_that_closes_its_output_may_take_a_while_to_end),
        CASE(what_a_process_complains_of_goes_nowhere),
        CASE(a_container_is_asked_with_its_token),
        CASE(a_container_elsewhere_is_not_asked_in_the_clear),
        CASE(an_instance_is_asked_by_imds_version_2),
        CASE(an_instance_is_left_alone_when_so_told),
        CASE(keys_are_renewed_at_three_quarters_of_their_life),
        CASE(old_keys_serve_until_they_expire_when_new_ones_cannot_be_had),
        CASE(keys_called_expired_are_fetched_again_once),
        CASE(many_askers_cost_one_fetch),
    };
    log_init(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests_name("AWS credentials", tests, NULL, NULL);
}
