#include "store/s3_xml.h"

#include <limits.h>

#include <expat.h>

struct walk {
    XML_Parser parser;
    const char *root;
    s3_xml_end end;
    void *context;
    struct buf path, text;
    size_t sizes[S3_XML_DEPTH_MAX]; /* of path, before each element was entered */
    unsigned depth;
    bool refused;
};

static void refuse(struct walk *w)
{
    w->refused = true;
    (void)XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL entered(void *data, const XML_Char *name, const XML_Char **unused)
{
    struct walk *w = data;
    (void)unused;
    if (w->refused) return;
    if (w->depth == S3_XML_DEPTH_MAX || (w->depth == 0 && strcmp(name, w->root) != 0)) {
        refuse(w);
        return;
    }
    w->sizes[w->depth++] = w->path.size;
    if (w->depth > 2) buf_append_byte(&w->path, '/');
    if (w->depth > 1) buf_append_str(&w->path, name);
    buf_clear(&w->text);
}

static void XMLCALL left(void *data, const XML_Char *name)
{
    struct walk *w = data;
    (void)name;
    if (w->refused) return;
    buf_append_byte(&w->path, '\0');
    buf_append_byte(&w->text, '\0');
    if (w->depth > 1 &&
        !w->end(w->context, (const char *)w->path.data, (const char *)w->text.data))
        refuse(w);
    w->path.size = w->sizes[--w->depth];
    buf_clear(&w->text);
}

static void XMLCALL letters(void *data, const XML_Char *text, int size)
{
    struct walk *w = data;
    if (w->refused) return;
    if (w->text.size + (size_t)size > S3_XML_TEXT_MAX)
        refuse(w);
    else
        buf_append(&w->text, text, (size_t)size);
}

static void XMLCALL doctype(void *data, const XML_Char *name, const XML_Char *system,
                            const XML_Char *public_id, int internal)
{
    (void)name;
    (void)system;
    (void)public_id;
    (void)internal;
    refuse(data);
}

bool s3_xml_read(struct slice xml, const char *root, s3_xml_end end, void *context)
{
    struct walk w = {.parser = XML_ParserCreate(NULL),
                     .root = root,
                     .end = end,
                     .context = context};
    if (!w.parser || xml.size == 0 || xml.size > INT_MAX) {
        if (w.parser) XML_ParserFree(w.parser);
        return false;
    }
    XML_SetUserData(w.parser, &w);
    XML_SetElementHandler(w.parser, entered, left);
    XML_SetCharacterDataHandler(w.parser, letters);
    XML_SetStartDoctypeDeclHandler(w.parser, doctype);
    enum XML_Status status =
        XML_Parse(w.parser, (const char *)xml.data, (int)xml.size, XML_TRUE);
    XML_ParserFree(w.parser);
    buf_release(&w.path);
    buf_release(&w.text);
    return status == XML_STATUS_OK && !w.refused;
}

void s3_xml_escape(const char *text, struct buf *out)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': buf_append_str(out, "&amp;"); break;
        case '<': buf_append_str(out, "&lt;"); break;
        case '>': buf_append_str(out, "&gt;"); break;
        case '"': buf_append_str(out, "&quot;"); break;
        default: buf_append_byte(out, (uint8_t)*text);
        }
    }
}
