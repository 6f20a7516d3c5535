// What has to be known before the first paint, so that nothing flashes or jumps: the theme, the frame
// (with or without navigation), and the role remembered from last time. The role here only decides
// which links are painted; what may be done is decided by the device at every request.
// A classic script, loaded before the style sheet is applied; everything else is a module.
(() => {
  const root = document.documentElement;
  const recall = key => { try { return localStorage.getItem(key); } catch { return null; } };
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const paint = () => { root.dataset.theme = recall('limen.theme') ?? (dark.matches ? 'dark' : 'light'); };
  paint();
  dark.addEventListener('change', paint);
  const role = recall('limen.role');
  if (role) root.dataset.role = role;
  const alone = ['/sign-in', '/setup', '/request-access', '/invitation'];
  root.dataset.frame = alone.includes(location.pathname) || !role ? 'plain' : 'app';
})();
