// A component that calls the greeter and ends: call, tell, and a call whose result is fetched later.
const { asyncCall, call, sys, tell } = require('kar-sdk')

async function main () {
  console.log((await call('greeter', 'helloJson', { name: 'Alice' })).greetings)
  await tell('greeter', 'helloJson', { name: 'nobody in particular' })
  const later = await asyncCall('greeter', 'helloJson', { name: 'Bob' })
  console.log((await later()).greetings)
  await sys.shutdown()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
