#include "base/metrics.h"

#include <math.h>

#include "base/task.h"
#include "unit/test.h"

/* All metrics as text, terminated. */
static struct buf written(void)
{
    struct buf text = BUF_INIT;
    metrics_write(&text);
    buf_append_byte(&text, '\0');
    return text;
}

static void assert_written(const char *part)
{
    struct buf text = written();
    if (!strstr((const char *)text.data, part)) {
        print_message("%s", (const char *)text.data);
        fail_msg("not written: %s", part);
    }
    buf_release(&text);
}

static void same_name_and_labels_are_the_same_metric(void **state)
{
    (void)state;
    struct metric *a = metric_counter("same_total", "Help.", "k=\"1\"");
    assert_ptr_equal(metric_counter("same_total", "Help.", "k=\"1\""), a);
    assert_ptr_not_equal(metric_counter("same_total", "Help.", "k=\"2\""), a);
    assert_ptr_not_equal(metric_counter("same_total", "Help.", NULL), a);
}

static void counter_prints_its_sum_below_help_and_type(void **state)
{
    (void)state;
    struct metric *b =
        metric_counter("count_total", "Line one\nback\\slash", "k=\"b\"");
    struct metric *a =
        metric_counter("count_total", "Line one\nback\\slash", "k=\"a\"");
    metric_add(b, 2);
    metric_add(b, UINT64_C(1) << 60);
    metric_add(a, 0);
    assert_written("# HELP count_total Line one\\nback\\\\slash\n"
                   "# TYPE count_total counter\n"
                   "count_total{k=\"a\"} 0\n"
                   "count_total{k=\"b\"} 1152921504606846978\n");
}

static void gauge_is_set_and_changed(void **state)
{
    (void)state;
    struct metric *g = metric_gauge("level", "A level.", NULL);
    metric_set(g, 0.1);
    assert_written("# TYPE level gauge\nlevel 0.1\n");
    metric_change(g, -2.1);
    assert_written("\nlevel -2\n");
    metric_set(g, INFINITY);
    assert_written("\nlevel +Inf\n");
    metric_set(g, -INFINITY);
    assert_written("\nlevel -Inf\n");
    metric_set(g, NAN);
    assert_written("\nlevel NaN\n");
}

static void histogram_counts_cumulatively_and_a_bound_is_inside(void **state)
{
    (void)state;
    static const double bounds[] = {0.5, 1, 2.5};
    struct metric *h = metric_histogram("size", "A size.", "k=\"v\"", bounds, 3);
    struct metric *plain = metric_histogram("size", "A size.", NULL, bounds, 3);
    metric_observe(h, 0.5);
    metric_observe(h, 0.75);
    metric_observe(h, 2.5);
    metric_observe(h, 100);
    metric_observe(plain, -1);
    assert_written("# TYPE size histogram\n"
                   "size_bucket{le=\"0.5\"} 1\n"
                   "size_bucket{le=\"1\"} 1\n"
                   "size_bucket{le=\"2.5\"} 1\n"
                   "size_bucket{le=\"+Inf\"} 1\n"
                   "size_sum -1\n"
                   "size_count 1\n"
                   "size_bucket{k=\"v\",le=\"0.5\"} 1\n"
                   "size_bucket{k=\"v\",le=\"1\"} 2\n"
                   "size_bucket{k=\"v\",le=\"2.5\"} 3\n"
                   "size_bucket{k=\"v\",le=\"+Inf\"} 4\n"
                   "size_sum{k=\"v\"} 103.75\n"
                   "size_count{k=\"v\"} 4\n");
}

static void bounds_for_seconds_ascend_from_100_us_to_60_s(void **state)
{
    (void)state;
    assert_true(metric_seconds[0] == 0.0001);
    assert_true(metric_seconds[metric_seconds_count - 1] == 60);
    for (size_t i = 1; i < metric_seconds_count; i++)
        assert_true(metric_seconds[i - 1] < metric_seconds[i]);
}

static void names_are_sorted_whatever_the_order_of_making(void **state)
{
    (void)state;
    (void)metric_gauge("zz_last", "Z.", NULL);
    (void)metric_gauge("aa_first", "A.", NULL);
    struct buf text = written();
    const char *all = (const char *)text.data;
    assert_memory_equal(all, "# HELP aa_first A.\n", 19);
    assert_true(strstr(all, "# HELP zz_last") > strstr(all, "# HELP aa_first"));
    buf_release(&text);
}

enum { THREADS = 4, UPDATES = 20000 };

static void update(void *arg)
{
    (void)arg;
    static const double bounds[] = {1};
    struct metric *counter = metric_counter("raced_total", "R.", NULL);
    struct metric *gauge = metric_gauge("raced_level", "R.", NULL);
    struct metric *histogram = metric_histogram("raced_size", "R.", NULL, bounds, 1);
    for (int i = 0; i < UPDATES; i++) {
        metric_add(counter, 1);
        metric_change(gauge, 1);
        metric_observe(histogram, i % 2 ? 1 : 3);
    }
}

static void updates_from_many_threads_are_all_counted(void **state)
{
    (void)state;
    struct thread *threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        threads[i] = thread_start("updater", update, NULL);
    for (int i = 0; i < 20; i++) {
        struct buf text = written();
        buf_release(&text);
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    assert_written("\nraced_total 80000\n");
    assert_written("\nraced_level 80000\n");
    assert_written("raced_size_bucket{le=\"1\"} 40000\n");
    assert_written("raced_size_sum 160000\nraced_size_count 80000\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_name_and_labels_are_the_same_metric),
        cmocka_unit_test(counter_prints_its_sum_below_help_and_type),
        cmocka_unit_test(gauge_is_set_and_changed),
        cmocka_unit_test(histogram_counts_cumulatively_and_a_bound_is_inside),
        cmocka_unit_test(bounds_for_seconds_ascend_from_100_us_to_60_s),
        cmocka_unit_test(names_are_sorted_whatever_the_order_of_making),
        cmocka_unit_test(updates_from_many_threads_are_all_counted),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
