// The same load as kafka.js, inside WebSockets at the HTTPS door. See producers.js.
import { load } from './producers.js';

export const { options, singles, batches, handleSummary } = load({ websocket: `wss://${__ENV.BROKER}/kafka` });
