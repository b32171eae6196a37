//! Writes what the fuzzer of OTLP/JSON starts from: each form that a value can have, once.

use std::error::Error;
use std::fs;

const ANY: &str = r#"{"arrayValue":{"values":[{"stringValue":"a\u00e9\ud83d\ude00\n"},{"boolValue":true},{"intValue":"-5"},{"intValue":1e+21},
{"doubleValue":-1.5e-7},{"doubleValue":"NaN"},{"doubleValue":null},{"bytesValue":"-_+/AA=="},{"bytesValue":[1,255]},
{"bytesValue":{"0":1}},{"bytesValue":{"type":"Buffer","data":[2]}},{},{"kvlistValue":{"values":[{"key":"k","value":{"stringValueStrindex":1}}]}}]}}"#;

const SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":ANY,"keyStrindex":1}],"droppedAttributesCount":1,
"entityRefs":[{"schemaUrl":"u","type":"t","idKeys":["i"],"descriptionKeys":[]}]},"scopeSpans":[{"scope":{"name":"n","version":"v","attributes":[]},
"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"","traceState":"s","name":"n","kind":"SPAN_KIND_SERVER",
"startTimeUnixNano":"1544712660000000000","end_time_unix_nano":1.5e3,"attributes":null,"events":[{"name":"e","timeUnixNano":1}],
"links":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","flags":1}],"status":{"code":2,"message":"m"},"flags":257}],
"schemaUrl":"u"}],"x":[null,{"y":1}]}]}"#;

const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","observedTimeUnixNano":2,"severityNumber":9,"severityText":"I",
"body":ANY,"eventName":"e","flags":1,"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174"}]}]}]}"#;

const POINTS: [&str; 4] = [
    r#""sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"5","exemplars":[{"asDouble":1,"filteredAttributes":[]}]},{"asInt":1e20}]}"#,
    r#""histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[{"count":2,"sum":0,"bucketCounts":["1",1.0],"explicitBounds":[1],"min":0,"max":2}]}"#,
    r#""exponentialHistogram":{"dataPoints":[{"count":3,"scale":-1,"zeroCount":1,"zeroThreshold":0.1,"positive":{"offset":-2,"bucketCounts":["0","200"]},"negative":{}}]}"#,
    r#""summary":{"dataPoints":[{"count":1,"sum":"Infinity","quantileValues":[{"quantile":0.5,"value":1e300}]}]}"#,
];

fn main() -> Result<(), Box<dyn Error>> {
    fs::create_dir_all("corpus/otlp_json")?;
    let write = |name: &str, signal: char, text: &str| fs::write(format!("corpus/otlp_json/{name}"), format!("{signal}{text}"));
    // The target takes the byte by three: 0x30 is a trace.
    write("span", '0', &SPAN.replace("ANY", ANY))?;
    write("logs", '2', &LOGS.replace("ANY", ANY))?;
    for (index, points) in POINTS.iter().enumerate() {
        let text = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","unit":"1",{points}}}]}}]}}]}}"#);
        write(&format!("metric-{index}"), '1', &text)?;
    }
    Ok(())
}
