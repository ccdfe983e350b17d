#include "node/config_toml.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <vector>

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

extern "C" {
/* op.h is C (atomics); this one function is all that is needed of it. */
enum err op_fail(struct op *op, enum err e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
}

namespace
{

struct walk {
    enum err (*visit)(void *, const struct toml_leaf *);
    void *context;
};

/* A name with a dot in it must not pass for two names. */
std::string printable(std::string_view name)
{
    for (char c : name) {
        bool bare = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!bare) return '"' + std::string(name) + '"';
    }
    return std::string(name);
}

std::string text_of(const toml::node &node)
{
    if (const auto *s = node.as_string()) return s->get();
    std::ostringstream out;
    out << toml::toml_formatter{toml::table{{"v", node}}, toml::format_flags::none};
    std::string text = out.str();
    return text.rfind("v = ", 0) == 0 ? text.substr(4) : text;
}

enum err visit_leaf(const walk &w, const std::string &table, const std::string &key,
                    const toml::node &node)
{
    std::vector<const char *> items;
    std::string text = text_of(node);
    struct toml_leaf leaf = {};
    leaf.table = table.c_str();
    leaf.key = key.c_str();
    leaf.kind = TOML_OTHER;
    leaf.text = text.c_str();
    leaf.line = static_cast<unsigned>(node.source().begin.line);

    if (node.is_string()) {
        leaf.kind = TOML_STRING;
    } else if (const auto *i = node.as_integer()) {
        leaf.kind = TOML_INTEGER;
        leaf.integer = i->get();
    } else if (const auto *b = node.as_boolean()) {
        leaf.kind = TOML_BOOL;
        leaf.boolean = b->get();
    } else if (node.is_table()) {
        leaf.kind = TOML_TABLE;
    } else if (const auto *a = node.as_array()) {
        bool strings = true;
        for (const toml::node &item : *a) {
            if (!item.is_string())
                strings = false;
            else
                items.push_back(item.as_string()->get().c_str());
        }
        if (strings) leaf.kind = TOML_LIST;
        leaf.list = items.data();
        leaf.list_count = items.size();
    }
    return w.visit(w.context, &leaf);
}

enum err visit_table(const walk &w, const std::string &name, const toml::table &table)
{
    for (const auto &[key, node] : table) {
        std::string own(key.str());
        const toml::table *inner = node.as_table();
        enum err e = ERR_OK;
        if (inner && !inner->empty())
            e = visit_table(w,
                            name.empty() ? printable(own) : name + "." + printable(own),
                            *inner);
        else
            e = visit_leaf(w, name, own, node);
        if (e) return e;
    }
    return ERR_OK;
}

std::string one_line(std::string_view text)
{
    std::string out;
    for (char c : text)
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    return out;
}

enum err read_file(struct op *op, const char *file, std::string &text)
{
    struct stat about = {};
    if (stat(file, &about) != 0)
        return op_fail(op, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", file,
                       std::strerror(errno));
    if (!S_ISREG(about.st_mode))
        return op_fail(op, ERR_INVALID, "%s is not a regular file", file);
    if (about.st_size > CONFIG_FILE_BYTES_MAX)
        return op_fail(op, ERR_INVALID, "%s has %lld bytes, more than %d", file,
                       static_cast<long long>(about.st_size),
                       static_cast<int>(CONFIG_FILE_BYTES_MAX));
    std::ifstream in(file, std::ios::binary);
    std::ostringstream all;
    all << in.rdbuf();
    if (!in) return op_fail(op, ERR_IO, "%s: cannot be read", file);
    text = all.str();
    return ERR_OK;
}

} // namespace

enum err config_toml_read(struct op *op, const char *file,
                          enum err (*visit)(void *, const struct toml_leaf *),
                          void *context)
{
    std::string text;
    enum err e = read_file(op, file, text);
    if (e) return e;
    try {
        toml::table root = toml::parse(text, std::string_view(file));
        return visit_table(walk{visit, context}, "", root);
    } catch (const toml::parse_error &bad) {
        return op_fail(op, ERR_INVALID, "%s line %u: %s", file,
                       static_cast<unsigned>(bad.source().begin.line),
                       one_line(bad.description()).c_str());
    }
}
