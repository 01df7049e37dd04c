//! One Parquet file: written whole, read batch by batch.

use super::conversation_table::{self, CONVERSATION_SCHEMA};
use super::disk::{self, failed};
use super::files::{Held, Tier};
use super::flow_columns::{self, FLOW_SCHEMA};
use super::nothing;
use crate::HistoryError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Key in the footer under which a file says what it holds.
const HELD_KEY: &str = "ringfence.held";
/// Rows of a row group.
const GROUP_ROWS_MAX: usize = 1 << 20;
/// Rows of a batch that is read.
const BATCH_ROWS: usize = 65_536;
/// Bytes of a dictionary of one column in one row group; beyond, values are written one by one.
const DICTIONARY_BYTES_MAX: usize = 4 << 20;

/// How often a file is created whose directory goes at that moment.
const ATTEMPTS_MAX: usize = 8;

/// Columns by whose least and largest values a question leaves pages out.
const PRUNED: &[&str] = &["src", "dst", "start_s", "first_ms"];

/// How hard a file is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effort {
    /// What is written as rows come, and soon merged.
    Quick,
    /// What stays.
    Thorough,
}

/// What a file is to hold.
#[derive(Debug)]
pub(super) struct Content<'h> {
    pub tier: Tier,
    pub effort: Effort,
    pub held: &'h Held,
    /// The columns that it has.
    pub columns: SchemaRef,
}

pub(super) fn schema(tier: Tier) -> SchemaRef {
    match tier {
        Tier::Flows => SchemaRef::clone(&FLOW_SCHEMA),
        Tier::Short | Tier::Long => SchemaRef::clone(&CONVERSATION_SCHEMA),
    }
}

fn properties(content: &Content<'_>) -> Result<WriterProperties, HistoryError> {
    let level = match content.effort {
        Effort::Quick => 1,
        Effort::Thorough => 6,
    };
    let level = ZstdLevel::try_new(level).map_err(engine("compress"))?;
    let held = serde_json::to_string(content.held).map_err(engine("describe a file"))?;
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_key_value_metadata(Some(vec![KeyValue::new(HELD_KEY.to_owned(), held)]));
    let (counting, scattered) = match content.tier {
        Tier::Flows => (flow_columns::COUNTING, flow_columns::SCATTERED),
        Tier::Short | Tier::Long => (&[] as &[&str], conversation_table::SCATTERED),
    };
    let encoded = [
        (counting, Encoding::DELTA_BINARY_PACKED),
        (scattered, Encoding::BYTE_STREAM_SPLIT),
    ];
    for (columns, encoding) in encoded {
        for column in columns {
            let path = ColumnPath::from(*column);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, encoding);
        }
    }
    for column in PRUNED {
        properties = properties
            .set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::Page);
    }
    Ok(properties.build())
}

fn engine<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> HistoryError {
    move |error| HistoryError::Engine {
        what,
        why: error.to_string(),
    }
}

/// Writes rows under the temporary name of `path` and makes them last. Where that fails nothing is left.
///
/// # Errors
/// The disk is full or fails, or `batches` failed.
pub(super) fn write(
    path: &Path,
    content: &Content<'_>,
    batches: impl Iterator<Item = Result<RecordBatch, HistoryError>>,
) -> Result<u64, HistoryError> {
    let tmp = disk::tmp_of(path);
    let written = write_tmp(&tmp, content, batches);
    if written.is_err() {
        disk::remove(&tmp);
    }
    written
}

fn write_tmp(
    tmp: &Path,
    content: &Content<'_>,
    batches: impl Iterator<Item = Result<RecordBatch, HistoryError>>,
) -> Result<u64, HistoryError> {
    let file = create(tmp)?;
    // Readers of any kind see plain text: the schema in memory, with its dictionaries, is not told.
    let options = ArrowWriterOptions::new()
        .with_properties(properties(content)?)
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(file, Arc::clone(&content.columns), options)
        .map_err(engine("write a file of rows"))?;
    for batch in batches {
        writer
            .write(&nothing::only(&batch?, &content.columns)?)
            .map_err(engine("write a file of rows"))?;
    }
    let file = writer
        .into_inner()
        .map_err(engine("write a file of rows"))?;
    file.sync_all().map_err(failed("sync", tmp))?;
    let length = file.metadata().map_err(failed("measure", tmp))?;
    Ok(length.len())
}

/// Creates a file, and its directory: that goes with the last file in it, maybe between the one and the other.
fn create(path: &Path) -> Result<File, HistoryError> {
    let mut attempt = 1;
    loop {
        match File::create(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS_MAX => {
                path.parent().map_or(Ok(()), disk::create_dir)?;
                attempt += 1;
            }
            created => return created.map_err(failed("create", path)),
        }
    }
}

/// Opens a file and reads its footer.
fn open(path: &Path, tier: Tier) -> Result<ParquetRecordBatchReaderBuilder<File>, HistoryError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let read = engine("read the footer of a file");
    let plain = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(read)?;
    // Texts are read as dictionaries, as they were written.
    let columns = nothing::in_any(&schema(tier), &[Arc::clone(plain.schema())]);
    let options = ArrowReaderOptions::new().with_schema(columns);
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options)
        .map_err(engine("read the footer of a file"))?;
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(
        file, metadata,
    ))
}

/// The columns that a file has.
///
/// # Errors
/// As [`held`].
pub(super) fn columns(path: &Path, tier: Tier) -> Result<SchemaRef, HistoryError> {
    Ok(Arc::clone(open(path, tier)?.schema()))
}

/// What a file says of itself.
///
/// # Errors
/// It is truncated, damaged, or not one of ours.
pub(super) fn held(path: &Path, tier: Tier) -> Result<Held, HistoryError> {
    let builder = open(path, tier)?;
    let metadata = builder.metadata().file_metadata();
    let value = metadata
        .key_value_metadata()
        .and_then(|all| all.iter().find(|kv| kv.key == HELD_KEY))
        .and_then(|kv| kv.value.as_deref());
    let Some(value) = value else {
        return Err(engine("read the footer of a file")(
            "it does not say what it holds",
        ));
    };
    let held: Held = serde_json::from_str(value).map_err(engine("read the footer of a file"))?;
    let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
    if rows != held.rows {
        let why = format!("{rows} rows where {} were written", held.rows);
        return Err(engine("read the footer of a file")(why));
    }
    Ok(held)
}

/// Reads a file's rows.
///
/// # Errors
/// As [`held`].
pub(super) fn read(
    path: &Path,
    tier: Tier,
) -> Result<impl Iterator<Item = Result<RecordBatch, HistoryError>> + use<>, HistoryError> {
    let reader: ParquetRecordBatchReader = open(path, tier)?
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(engine("read a file of rows"))?;
    let whole = schema(tier);
    Ok(reader.map(move |batch| {
        nothing::with_all(&batch.map_err(engine("read a file of rows"))?, &whole)
    }))
}

/// Reads everything, to see whether it can be read.
///
/// # Errors
/// Where it cannot.
pub(super) fn verify(path: &Path, tier: Tier) -> Result<(), HistoryError> {
    for batch in read(path, tier)? {
        batch?;
    }
    Ok(())
}
