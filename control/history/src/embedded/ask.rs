//! DataFusion: tables over files and batches, and questions put to them.
//!
//! Queries run on a runtime of the engine's own, in memory that is bounded; what does not fit goes to disk. Whoever asks
//! waits outside the runtime, so that any thread may ask.

use super::disk::failed;
use super::files::StoredFile;
use super::nothing;
use crate::HistoryError;
use crate::answer::Value;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringViewArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, Session, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::common::ScalarValue;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{ColumnarValue, Expr, Volatility, create_udf};
use datafusion::object_store::local::LocalFileSystem;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tokio::task::JoinHandle;

/// Where DataFusion finds our files.
const STORE: &str = "ringfence-history://files/";
/// Directory of what queries spill.
const SPILL_DIR: &str = "spill";
/// Batches between a query and whoever takes its rows.
const BATCHES_AHEAD: usize = 4;

/// Why a question with a deadline has no answer.
pub(super) const TOO_LONG: &str = "it takes too long";

static STORE_URL: LazyLock<ObjectStoreUrl> = LazyLock::new(|| {
    ObjectStoreUrl::parse(STORE).unwrap_or_else(|_| ObjectStoreUrl::local_filesystem())
});

pub(super) fn engine(error: impl std::fmt::Display) -> HistoryError {
    HistoryError::Engine {
        what: "answer",
        why: error.to_string(),
    }
}

/// Dictionaries are how texts lie in memory; questions see texts, and `NULL` where a file lacks a column.
fn asked_schema(stored: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(..) => Field::new(field.name(), DataType::Utf8View, false),
        other => Field::new(field.name(), other.clone(), false),
    };
    let field = |stored: &Arc<Field>| field(stored).with_nullable(nothing::may_lack(stored.name()));
    Arc::new(Schema::new(
        stored.fields().iter().map(field).collect::<Vec<_>>(),
    ))
}

/// Rows in files and in memory, as one table.
#[derive(Debug)]
pub(super) struct StoredTable {
    schema: SchemaRef,
    files: Vec<Arc<StoredFile>>,
    batches: Vec<RecordBatch>,
}

impl StoredTable {
    pub(super) fn new(
        stored: &Schema,
        files: Vec<Arc<StoredFile>>,
        batches: Vec<RecordBatch>,
    ) -> Self {
        Self {
            schema: asked_schema(stored),
            files,
            batches,
        }
    }

    fn scan_files(
        &self,
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let source = ParquetSource::new(Arc::clone(&self.schema)).with_pushdown_filters(true);
        let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); partitions.max(1)];
        let mut sizes = vec![0_u64; groups.len()];
        for file in &self.files {
            let lightest = (0..sizes.len()).min_by_key(|i| sizes.get(*i).copied());
            let Some(lightest) = lightest else { break };
            if let (Some(group), Some(size)) = (groups.get_mut(lightest), sizes.get_mut(lightest)) {
                group.push(PartitionedFile::new(file.path.clone(), file.bytes));
                *size += file.bytes;
            }
        }
        let groups = groups.into_iter().filter(|g| !g.is_empty());
        let config = FileScanConfigBuilder::new(STORE_URL.clone(), Arc::new(source))
            .with_file_groups(groups.map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn scan_batches(
        &self,
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(columns)?);
        let mut batches = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
            for field in schema.fields() {
                arrays.push(match batch.column_by_name(field.name()) {
                    Some(column) => cast(column, field.data_type())?,
                    None => new_null_array(field.data_type(), batch.num_rows()),
                });
            }
            // A question may be about the number of rows alone.
            let rows =
                arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            batches.push(RecordBatch::try_new_with_options(
                Arc::clone(&schema),
                arrays,
                &rows,
            )?);
        }
        let plan: Arc<dyn ExecutionPlan> =
            MemorySourceConfig::try_new_exec(&[batches], schema, None)?;
        Ok(plan)
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let partitions = state.config().target_partitions();
        match (self.files.is_empty(), self.batches.is_empty()) {
            (false, true) => self.scan_files(projection, partitions),
            (true, _) => self.scan_batches(projection),
            (false, false) => UnionExec::try_new(vec![
                self.scan_files(projection, partitions)?,
                self.scan_batches(projection)?,
            ]),
        }
    }
}

/// A query that does not go on when nobody waits for it.
struct Stopped(JoinHandle<()>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Nothing that changes anything.
fn read_only() -> SQLOptions {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
}

/// Tables of one question.
pub(super) struct Tables {
    context: SessionContext,
}

impl Tables {
    pub(super) fn add(&self, name: &str, table: StoredTable) -> Result<(), HistoryError> {
        self.context
            .register_table(name, Arc::new(table))
            .map_err(engine)
            .map(|_| ())
    }

    pub(super) fn add_memory(&self, name: &str, batch: RecordBatch) -> Result<(), HistoryError> {
        self.context
            .register_batch(name, batch)
            .map_err(engine)
            .map(|_| ())
    }
}

/// The engine that answers.
#[derive(Debug)]
pub(super) struct Asker {
    /// None only while it is being dropped.
    runtime: Option<tokio::runtime::Runtime>,
    state: SessionState,
}

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops the engine may be inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Asker {
    pub(super) fn new(
        root: &Path,
        memory_bytes: usize,
        threads: usize,
    ) -> Result<Self, HistoryError> {
        let spill = root.join(SPILL_DIR);
        // What an earlier process spilled is of no use to anybody.
        let _ = std::fs::remove_dir_all(&spill);
        std::fs::create_dir_all(&spill).map_err(failed("create directory", &spill))?;
        let store = LocalFileSystem::new_with_prefix(root).map_err(engine)?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
            .with_temp_file_path(spill)
            .build_arc()
            .map_err(engine)?;
        environment.register_object_store(STORE_URL.as_ref(), Arc::new(store));
        let config = SessionConfig::new()
            .with_target_partitions(threads)
            .with_information_schema(false);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(environment)
            .with_default_features()
            .build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("history-query")
            .enable_time()
            .build()
            .map_err(failed("start threads for", root))?;
        Ok(Self {
            runtime: Some(runtime),
            state,
        })
    }

    /// Nothing but functions.
    pub(super) fn tables(&self) -> Tables {
        let catalog = MemoryCatalogProvider::new();
        let names = self.state.config().options().catalog.clone();
        let schema = Arc::new(MemorySchemaProvider::new());
        // Neither can fail: both were made here, and are empty.
        let _ = catalog.register_schema(&names.default_schema, schema);
        let catalogs = MemoryCatalogProviderList::new();
        let _ = catalogs.register_catalog(names.default_catalog, Arc::new(catalog));
        let state = SessionStateBuilder::new_from_existing(self.state.clone())
            .with_catalog_list(Arc::new(catalogs))
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_udf(create_udf(
            "in_net",
            vec![DataType::Utf8View, DataType::Utf8View],
            DataType::Boolean,
            Volatility::Immutable,
            Arc::new(in_net),
        ));
        context.register_udf(create_udf(
            "hex16",
            vec![DataType::UInt64],
            DataType::Utf8View,
            Volatility::Immutable,
            Arc::new(hex16),
        ));
        Tables { context }
    }

    /// Hands every batch of the answer to `each`, until it breaks.
    pub(super) fn each_batch(
        &self,
        tables: &Tables,
        sql: &str,
        each: impl FnMut(&RecordBatch) -> Result<ControlFlow<()>, HistoryError>,
    ) -> Result<(), HistoryError> {
        self.each_batch_until(tables, sql, None, each)
    }

    /// The same; fails where the answer is not there in time.
    pub(super) fn each_batch_until(
        &self,
        tables: &Tables,
        sql: &str,
        deadline: Option<Instant>,
        mut each: impl FnMut(&RecordBatch) -> Result<ControlFlow<()>, HistoryError>,
    ) -> Result<(), HistoryError> {
        let Some(runtime) = &self.runtime else {
            return Ok(());
        };
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let (context, sql) = (tables.context.clone(), sql.to_owned());
        let query = runtime.spawn(async move {
            let answered = async {
                let answer = context.sql_with_options(&sql, read_only()).await?;
                let mut stream = answer.execute_stream().await?;
                while let Some(batch) = stream.next().await {
                    // Nobody takes more when whoever asked broke off.
                    if sender.send(Ok(batch?)).is_err() {
                        break;
                    }
                }
                Ok::<(), DataFusionError>(())
            };
            if let Err(error) = answered.await {
                let _ = sender.send(Err(error));
            }
        });
        let _stopped = Stopped(query);
        loop {
            let batch = match deadline {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => receiver.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match batch {
                Ok(batch) => {
                    if each(&batch.map_err(engine)?)?.is_break() {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => return Err(engine(TOO_LONG)),
            }
        }
    }

    /// The answer, row by row.
    pub(super) fn rows(&self, tables: &Tables, sql: &str) -> Result<Vec<Vec<Value>>, HistoryError> {
        let mut rows = Vec::new();
        self.each_batch(tables, sql, |batch| {
            append_rows(&mut rows, batch)?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// Gives a query a name.
    pub(super) fn add_view(
        &self,
        tables: &Tables,
        name: &str,
        sql: &str,
    ) -> Result<(), HistoryError> {
        let context = tables.context.clone();
        let sql = sql.to_owned();
        let view = self.wait(async move { Ok(context.sql(&sql).await?.into_view()) })?;
        tables
            .context
            .register_table(name, view)
            .map_err(engine)
            .map(|_| ())
    }

    /// Names of the columns of an answer.
    pub(super) fn columns(&self, tables: &Tables, sql: &str) -> Result<Vec<String>, HistoryError> {
        let (context, sql) = (tables.context.clone(), sql.to_owned());
        let schema = self.wait(async move {
            Ok(context
                .sql_with_options(&sql, read_only())
                .await?
                .schema()
                .clone())
        })?;
        Ok(schema.fields().iter().map(|f| f.name().clone()).collect())
    }

    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DataFusionError>> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (sender, receiver) = sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // Whoever asked waits.
                let _ = sender.send(work.await);
            });
        }
        receiver.recv().map_err(engine)?.map_err(engine)
    }

    /// A statement somebody wrote.
    pub(super) fn parse(
        &self,
        text: &str,
    ) -> Result<datafusion::sql::parser::Statement, DataFusionError> {
        let dialect = self.state.config().options().sql_parser.dialect;
        self.state.sql_to_statement(text, &dialect)
    }
}

fn append_rows(rows: &mut Vec<Vec<Value>>, batch: &RecordBatch) -> Result<(), HistoryError> {
    let begin = rows.len();
    rows.resize_with(begin + batch.num_rows(), || {
        Vec::with_capacity(batch.num_columns())
    });
    for column in batch.columns() {
        let is_text = matches!(
            column.data_type(),
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8
        );
        if is_text {
            let texts = cast(column, &DataType::Utf8View).map_err(engine)?;
            let texts = texts.as_string_view().iter();
            for (row, text) in rows.iter_mut().skip(begin).zip(texts) {
                row.push(Value::Text(text.unwrap_or("").to_owned()));
            }
        } else {
            let numbers = cast(column, &DataType::UInt64).map_err(engine)?;
            let numbers = numbers.as_primitive::<UInt64Type>().iter();
            for (row, number) in rows.iter_mut().skip(begin).zip(numbers) {
                row.push(Value::Number(number.unwrap_or(0)));
            }
        }
    }
    Ok(())
}

/// `in_net(address, '10.0.0.0/12')`.
fn in_net(arguments: &[ColumnarValue]) -> Result<ColumnarValue, DataFusionError> {
    let [
        addresses,
        ColumnarValue::Scalar(ScalarValue::Utf8View(Some(net))),
    ] = arguments
    else {
        return Err(DataFusionError::Plan(
            "in_net(address, 'prefix')".to_owned(),
        ));
    };
    let refused = || DataFusionError::Plan(format!("in_net: `{net}` is no prefix"));
    let (address, bits) = net.split_once('/').ok_or_else(refused)?;
    let net: IpAddr = address.parse().map_err(|_| refused())?;
    let bits: u32 = bits.parse().map_err(|_| refused())?;
    let array = addresses.to_array(1)?;
    let within = |text: Option<&str>| {
        let address: IpAddr = text?.parse().ok()?;
        Some(match (net, address) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                (u32::from(net) ^ u32::from(a)).leading_zeros() >= bits.min(32)
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                (u128::from(net) ^ u128::from(a)).leading_zeros() >= bits.min(128)
            }
            _ => false,
        })
    };
    let result: BooleanArray = array.as_string_view().iter().map(within).collect();
    Ok(ColumnarValue::Array(Arc::new(result)))
}

/// A number as 16 hexadecimal digits.
fn hex16(arguments: &[ColumnarValue]) -> Result<ColumnarValue, DataFusionError> {
    let [numbers] = arguments else {
        return Err(DataFusionError::Plan("hex16(number)".to_owned()));
    };
    let array = numbers.to_array(1)?;
    let digits: StringViewArray = array
        .as_primitive::<UInt64Type>()
        .iter()
        .map(|number| number.map(|n| format!("{n:016x}")))
        .collect();
    Ok(ColumnarValue::Array(Arc::new(digits)))
}
