//! The schema of the files, and the writing of a row group: one column after the other, in the schema's
//! order. Texts are in dictionaries, times and steps in differences; all is compressed with zstd.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};
use wattrace_api::Kind;

use crate::rows::{About, Row, integer};

const SCHEMA: &str = "
    message wattrace {
        required int64 time (timestamp(nanos, true));
        required int64 start (timestamp(nanos, true));
        required binary host (string);
        required binary metric (string);
        required double value;
        optional int64 steps;
        required binary unit (string);
        required binary kind (string);
        required binary resource_type (string);
        required binary resource_id (string);
        optional binary domain (string);
        optional binary origin (string);
        required boolean in_totals;
        optional binary consumer_type (string);
        optional binary consumer_id (string);
        optional int64 consumer_start (timestamp(nanos, true));
        optional binary program (string);
        required binary attributes (string);
    }";

/// The version of the schema, in the files' metadata. Columns are only added.
const VERSION: &str = "1";

/// The schema.
pub(crate) fn schema() -> Result<TypePtr> {
    Ok(Arc::new(parse_message_type(SCHEMA)?))
}

/// How files are written.
pub(crate) fn properties() -> WriterProperties {
    let about = KeyValue::new("wattrace.schema".to_owned(), VERSION.to_owned());
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("wattrace version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(vec![about]));
    for number in ["time", "steps"] {
        let column = ColumnPath::from(number);
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    // A dictionary of attributes saves much: each stands there once for all points of its series.
    properties.set_dictionary_page_size_limit(16 * 1024 * 1024).build()
}

/// Writes `rows` as a row group.
pub(crate) fn write<W: Write + Send>(writer: &mut SerializedFileWriter<W>, rows: &[Row]) -> Result<()> {
    let mut group = Group { writer: writer.next_row_group()?, rows };
    group.integers(|row| row.time)?;
    group.integers(|row| row.about.start)?;
    group.texts(|about| &about.host)?;
    group.texts(|about| &about.name)?;
    group.required::<DoubleType>(|row| row.about.metric.in_units(row.value))?;
    group.optional::<Int64Type>(|row| {
        (row.about.metric.kind == Kind::Counter).then(|| integer(row.value.steps()))
    })?;
    group.texts(|about| &about.unit)?;
    group.texts(|about| &about.kind)?;
    group.texts(|about| &about.resource_type)?;
    group.texts(|about| &about.resource_id)?;
    group.optional_texts(|about| &about.domain)?;
    group.optional_texts(|about| &about.origin)?;
    group.required::<BoolType>(|row| row.about.in_totals)?;
    group.optional_texts(|about| &about.consumer_type)?;
    group.optional_texts(|about| &about.consumer_id)?;
    group.optional::<Int64Type>(|row| row.about.consumer_start)?;
    group.optional_texts(|about| &about.program)?;
    group.texts(|about| &about.attributes)?;
    group.writer.close()?;
    Ok(())
}

struct Group<'a, W: Write> {
    writer: SerializedRowGroupWriter<'a, W>,
    rows: &'a [Row],
}

impl<W: Write + Send> Group<'_, W> {
    fn integers(&mut self, of: impl Fn(&Row) -> i64) -> Result<()> {
        self.required::<Int64Type>(of)
    }

    fn texts(&mut self, of: impl Fn(&About) -> &ByteArray) -> Result<()> {
        self.required::<ByteArrayType>(|row| of(&row.about).clone())
    }

    fn optional_texts(&mut self, of: impl Fn(&About) -> &Option<ByteArray>) -> Result<()> {
        self.optional::<ByteArrayType>(|row| of(&row.about).clone())
    }

    /// Writes the next column.
    fn required<T: DataType>(&mut self, of: impl Fn(&Row) -> T::T) -> Result<()> {
        let values: Vec<T::T> = self.rows.iter().map(of).collect();
        self.column::<T>(&values, None)
    }

    /// Writes the next column, which may have nothing in some rows.
    fn optional<T: DataType>(&mut self, of: impl Fn(&Row) -> Option<T::T>) -> Result<()> {
        let mut levels = Vec::with_capacity(self.rows.len());
        let values: Vec<T::T> = self
            .rows
            .iter()
            .filter_map(|row| {
                let value = of(row);
                levels.push(i16::from(value.is_some()));
                value
            })
            .collect();
        self.column::<T>(&values, Some(&levels))
    }

    fn column<T: DataType>(&mut self, values: &[T::T], levels: Option<&[i16]>) -> Result<()> {
        let column = self.writer.next_column()?;
        let mut column = column.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
        column.typed::<T>().write_batch(values, levels, None)?;
        column.close()
    }
}
