// Load on the Kafka door: producers over TLS with SASL. See producers.js.
import { load } from './producers.js';

export const { options, singles, batches, handleSummary } = load({ tls: true });
