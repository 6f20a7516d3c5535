// Every page of the admin page, and how to tell that it has shown what it is for.

export const PAGES = [
  { name: 'dashboard', where: '/' },
  { name: 'faces', where: '/faces' },
  { name: 'subject', where: '/faces/SUBJECT' },
  { name: 'enrol', where: '/enrol' },
  { name: 'import', where: '/import' },
  { name: 'live', where: '/live' },
  { name: 'verify', where: '/verify' },
  { name: 'unknown', where: '/unknown' },
  { name: 'door', where: '/door' },
  { name: 'door-policy', where: '/door?tab=policy' },
  { name: 'door-passes', where: '/door?tab=passes' },
  { name: 'events', where: '/events' },
  { name: 'settings', where: '/settings' },
  { name: 'privacy', where: '/privacy' },
  { name: 'users', where: '/users' },
  { name: 'account', where: '/account' },
  { name: 'jobs', where: '/jobs' },
  { name: 'about', where: '/about' },
];

// Those for somebody who is not signed in. `setup` needs a device without an owner.
export const PUBLIC_PAGES = [
  { name: 'sign-in', where: '/sign-in' },
  { name: 'request-access', where: '/request-access' },
  { name: 'invitation', where: '/invitation' },
];

// Waits until the page has its heading and shows what it fetched, not the shapes that keep its place.
export async function settled(page) {
  await page.locator('main h1').first().waitFor();
  await page.waitForFunction(() => !document.querySelector('[aria-busy="true"], main .bone'));
}
