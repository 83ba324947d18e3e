/*
 * An output plugin that does nothing: what remains is the cost of decoding WAL
 * and reassembling transactions, the floor under every other plugin.
 *
 * It shares no code with walferry, so that a slow habit of walferry's cannot
 * hide in the floor it is measured against.
 *
 * Option byte-per-commit writes one byte at each commit: the floor for small
 * transactions, of which each needs at least one message.
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
} NullPlugin;

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
