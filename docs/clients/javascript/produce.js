// node produce.js BROKERS TOPIC TEXT…: writes each text as an event.
import { randomBytes, randomUUID } from 'node:crypto'
import { Kafka, Partitioners, logLevel } from 'kafkajs'

const [brokers, topic, ...texts] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'produce', brokers: brokers.split(','), logLevel: logLevel.WARN })
const producer = kafka.producer({
  idempotent: true,
  maxInFlightRequests: 1,
  createPartitioner: Partitioners.DefaultPartitioner // a key's partition is the one that Java finds
})

// A new trace, sampled. With OpenTelemetry's instrumentation leave this out: it sets the header itself.
const traceparent = () => `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`

await producer.connect()
const messages = texts.map((text, i) => ({
  key: `user-${i % 3}`, // events with the same key get their results in the order of the events
  value: JSON.stringify({ id: randomUUID(), text }),
  headers: { 'content-type': 'application/json', traceparent: traceparent() }
}))
const places = await producer.send({ topic, acks: -1, messages }) // throws if an event was not written
console.log(JSON.stringify(places))
await producer.disconnect()
