/*
 * An output plugin that does nothing: what remains is the cost of decoding WAL
 * and reassembling transactions, the floor under every other plugin.
 *
 * It shares no code with walferry, so that a slow habit of walferry's cannot
 * hide in the floor it is measured against.
 *
 * Option byte-per-commit writes one byte at each commit: the floor for small
 * transactions, of which each needs at least one message.
 *
 * Option bytes-per-insert writes that many bytes for each INSERT, gathered to
 * messages of 64 kB: the floor for large rows, whose bytes have to be copied
 * into the socket and out of it again whoever writes them.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "fmgr.h"
#include "replication/logical.h"
#include "replication/output_plugin.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *cb);

typedef struct NullPlugin
{
	bool		byte_per_commit;
	int			bytes_per_insert;
	int			gathered;
} NullPlugin;

#define MESSAGE_SIZE 65536

static void
null_startup(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	NullPlugin *plugin = MemoryContextAllocZero(ctx->context, sizeof(NullPlugin));
	ListCell   *cell;

	foreach(cell, ctx->output_plugin_options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "byte-per-commit") == 0)
			plugin->byte_per_commit = option->arg == NULL || defGetBoolean(option);
		else if (strcmp(option->defname, "bytes-per-insert") == 0)
			plugin->bytes_per_insert = atoi(defGetString(option));
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown option \"%s\" of plugin walferry_null", option->defname)));
	}
	ctx->output_plugin_private = plugin;
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
}

static void
null_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
}

static void
null_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
			ReorderBufferChange *change)
{
	static const char zeros[MESSAGE_SIZE];
	NullPlugin *plugin = ctx->output_plugin_private;

	if (change->action != REORDER_BUFFER_CHANGE_INSERT)
		return;
	plugin->gathered += plugin->bytes_per_insert;
	while (plugin->gathered >= MESSAGE_SIZE)
	{
		OutputPluginPrepareWrite(ctx, true);
		appendBinaryStringInfo(ctx->out, zeros, MESSAGE_SIZE);
		OutputPluginWrite(ctx, true);
		plugin->gathered -= MESSAGE_SIZE;
	}
}

static void
null_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	NullPlugin *plugin = ctx->output_plugin_private;

	if (plugin->byte_per_commit)
	{
		OutputPluginPrepareWrite(ctx, true);
		appendStringInfoChar(ctx->out, 'C');
		OutputPluginWrite(ctx, true);
	}
}

void
_PG_output_plugin_init(OutputPluginCallbacks *cb)
{
	cb->startup_cb = null_startup;
	cb->begin_cb = null_begin;
	cb->change_cb = null_change;
	cb->commit_cb = null_commit;
}
