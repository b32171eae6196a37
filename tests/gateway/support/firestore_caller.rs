//! A caller of Firestore by gRPC that is not the gate's, and an emulator that is warm.
//!
//! What always holds: a call is one request and one answer; nothing is tried again.

use bytes::{BufMut, Bytes, BytesMut};
use googleapis_tonic_google_firestore_v1::google::firestore::v1::precondition::ConditionType;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::run_query_request::QueryType;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::structured_query::CollectionSelector;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::value::ValueType;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::write::Operation;
use googleapis_tonic_google_firestore_v1::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchWriteRequest, BatchWriteResponse, Document, Precondition, RunQueryRequest, StructuredQuery,
    Value as Typed, Write,
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message;

use super::firestore::{DATABASE, Firestore, PROJECT};

const BATCH_WRITE: &str = "/google.firestore.v1.Firestore/BatchWrite";

/// A caller by gRPC, written by hand: the code of a status (0 is fine), and the message where there is one.
pub struct Caller(Pool<HttpConnector, Full<Bytes>>, String);

impl Caller {
    /// One that calls this address (host:port).
    pub fn of(address: &str) -> Self {
        Self(Pool::builder(TokioExecutor::new()).http2_only(true).build_http(), format!("http://{address}"))
    }

    /// Calls, and reads to the end.
    pub async fn call(&self, path: &str, message: &impl Message) -> Result<(i32, Bytes), String> {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.encoded_len()).expect("small"));
        message.encode(&mut framed).expect("there is room");
        let request = Request::post(format!("{}{path}", self.1)).header("content-type", "application/grpc").header("te", "trailers");
        let request = request.header("authorization", "Bearer owner").body(Full::new(framed.freeze())).expect("a request");
        let answer: Response<Incoming> = self.0.request(request).await.map_err(|error| format!("{error:?}"))?;
        let code = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.parse::<i32>().expect("a number"));
        let head = code(answer.headers());
        let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        let trailing = body.trailers().and_then(code);
        Ok((head.or(trailing).expect("a status"), body.to_bytes()))
    }

    /// Creates these documents; the code of the call, or of each write.
    pub async fn create(&self, ids: &[&str]) -> Result<Vec<i32>, String> {
        let (code, message) = self.call(BATCH_WRITE, &creates(ids)).await?;
        if code != 0 {
            return Ok(vec![code]);
        }
        let answer = BatchWriteResponse::decode(&message[5..]).expect("an answer");
        assert_eq!(answer.write_results.len(), ids.len());
        Ok(answer.status.iter().map(|status| status.code).collect())
    }
}

fn creates(ids: &[&str]) -> BatchWriteRequest {
    let database = format!("projects/{PROJECT}/databases/{DATABASE}");
    let create = |id: &&str| Write {
        operation: Some(Operation::Update(Document {
            name: format!("{database}/documents/things/{id}"),
            fields: [("n".to_owned(), Typed { value_type: Some(ValueType::IntegerValue(1)) })].into_iter().collect(),
            ..Document::default()
        })),
        current_document: Some(Precondition { condition_type: Some(ConditionType::Exists(false)) }),
        ..Write::default()
    };
    BatchWriteRequest { database: database.clone(), writes: ids.iter().map(create).collect(), ..BatchWriteRequest::default() }
}

/// Lets an emulator do everything once that a gate asks of it. Its first calls take longer than a gate waits for
/// Firestore, on a busy machine: it is a Java program that has just begun.
pub async fn warm(firestore: &Firestore) {
    let caller = Caller::of(&firestore.address());
    let database = format!("projects/{PROJECT}/databases/{DATABASE}");
    let parent = format!("{database}/documents");
    for round in 0..5 {
        let ids: Vec<_> = (0..20).map(|n| format!("warm-{round}-{n}")).collect();
        caller.create(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await.expect("the emulator writes");
        let documents = ids.iter().map(|id| format!("{parent}/things/{id}")).collect();
        let get = BatchGetDocumentsRequest { database: database.clone(), documents, ..BatchGetDocumentsRequest::default() };
        caller.call("/google.firestore.v1.Firestore/BatchGetDocuments", &get).await.expect("the emulator reads");
        let from = vec![CollectionSelector { collection_id: "things".to_owned(), all_descendants: false }];
        let query = QueryType::StructuredQuery(StructuredQuery { from, ..StructuredQuery::default() });
        let query = RunQueryRequest { parent: parent.clone(), query_type: Some(query), ..RunQueryRequest::default() };
        caller.call("/google.firestore.v1.Firestore/RunQuery", &query).await.expect("the emulator finds");
    }
    firestore.clear().await;
}
